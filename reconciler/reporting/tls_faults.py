"""Why TLS to a backend failed, in words: workers count the number of the reason in shared memory.

The number is of the last handshake of a worker with the backend, and 0 once one has succeeded; of a
backend whose address has changed there may be two, and either 0 means that it is well. The
words and their order are the engine's (`tls/fault.rs`), which a test compares. Called for `status`,
`explain` and the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

FIELD = "tls_fault"

SENTENCES = {
    "certificate_unknown_issuer": "its certificate is of an authority that is not trusted (ca)",
    "certificate_expired": "its certificate has expired",
    "certificate_not_yet_valid": "its certificate is not valid yet, or a clock is wrong",
    "certificate_other_name": "its certificate has another name (server_name)",
    "certificate_other_purpose": "its certificate is not for servers",
    "certificate_is_authority": "its certificate is that of an authority, and not itself in ca",
    "certificate_algorithm": "its certificate has a key or signature of a sort that is not taken",
    "certificate_invalid": "its certificate is not valid",
    "wants_our_certificate": "it wants a certificate of ours, or another one (certificate)",
    "nothing_in_common": (
        "it has no TLS version or cipher suite in common with us, or wants a certificate of ours"
    ),
    "no_application_protocol": "it does not speak what is asked for by ALPN (protocol)",
    "unknown_server_name": "it does not know the name that it was asked for (server_name)",
    "refused_by_backend": "it has refused the handshake",
    "not_tls": "what it sent is not TLS",
    "protocol_broken": "it broke the protocol",
    "closed": "it ended the connection within the handshake",
}
"""By the word that the access log has as `reason`; the first has the number 1."""

_WORDS = tuple(SENTENCES)


class FaultCounters(Protocol):
    """What a worker counts about entities."""

    def slot_least(self, kind: str, name: str, field: str) -> int:
        """The smallest number of an entity's slots."""
        ...


def word(number: int) -> str | None:
    """The word of a number; None for 0, and for one of another version's engine."""
    return _WORDS[number - 1] if 0 < number <= len(_WORDS) else None


def fault_of(backend: str, workers: Iterable[FaultCounters]) -> str | None:
    """Say what is wrong with a backend as the workers have it, if anything is."""
    words = (word(each.slot_least("backend", backend, FIELD)) for each in workers)
    found = next((each for each in words if each is not None), None)
    return SENTENCES[found] if found else None
