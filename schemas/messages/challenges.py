"""What workers answer an ACME authority (RFC 8555 §8): the file in which they find it.

No part of the state: it is wanted for as long as a certificate is ordered. Written by
`reconciler.workers.telling.challenges`, read by the worker's shell.
"""

from pydantic import BaseModel, ConfigDict, Field

ANSWERS_MAX = 4096
"""Of each kind; the engine takes no more."""


class ChallengeAnswers(BaseModel):
    """By token a key authorization, by hostname the PEM chain and key to show in handshakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    http: dict[str, str] = Field(default_factory=dict, max_length=ANSWERS_MAX)
    tls: dict[str, tuple[str, str]] = Field(default_factory=dict, max_length=ANSWERS_MAX)
