"""Bounds of single requests: how large, and how long. Part of frontend and policy.

A limit never replaces another: the smallest counts. A timeout is that of whoever is nearest to the
frontend, and takes the place of what listener and cluster say.
"""

from typing import Annotated, Literal

from pydantic import Discriminator, Field

from schemas.base import Model
from schemas.policies.nulls import ADDS_UP
from schemas.values.forms import A_MAP, A_WORD, INHERIT, MAP, WORD
from schemas.values.units import Duration, Measured


def _form_of(value: object) -> str:
    return WORD if value == INHERIT else MAP


InheritedDuration = Annotated[
    Annotated[Literal["inherit"], A_WORD] | Annotated[Duration, A_MAP],
    Discriminator(_form_of),
]


class RequestLimits(Model):
    """Bounds of requests that a frontend takes."""

    body_bytes: Annotated[
        Annotated[int, Measured("size", "0B", "1024TiB")] | None,
        Field(
            description=(
                "Largest request body; a larger one is answered by 413. The smallest counts that "
                "frontend, policies or listener name. Without it this one leaves it to the others."
            ),
            examples=["10MiB"],
        ),
        ADDS_UP,
    ] = None


class RequestTimeouts(Model):
    """How long each step of a request may take."""

    request: Annotated[
        InheritedDuration | None,
        Field(
            description=(
                "All of it, from the request's head to the end of the response; then 504, or, "
                "where the response has begun, its connection is closed (of HTTP/2, the stream). "
                "Not counted from when the connection switches to another protocol on. inherit: "
                "as policies say that hold here, and else as long as it takes. null: as long as "
                "it takes."
            ),
            examples=["30s"],
        ),
    ] = INHERIT
    request_body: Annotated[
        InheritedDuration | None,
        Field(
            description=(
                "Longest pause while the client sends a body; then 408. inherit: as policies say "
                "that hold here, and else as the listener does. null: as the listener does."
            ),
            examples=["2m"],
        ),
    ] = INHERIT
    response_body: Annotated[
        InheritedDuration | None,
        Field(
            description=(
                "Longest pause once the response has begun, while neither side sends anything. "
                "inherit: as policies say that hold here, and else as the cluster does. null: as "
                "the cluster does."
            ),
            examples=["1h"],
        ),
    ] = INHERIT
    response_head: Annotated[
        InheritedDuration | None,
        Field(
            description=(
                "From the whole request, when the backend has taken its last byte, to the "
                "response's head; then 504. inherit and null as of response_body."
            ),
            examples=["5m"],
        ),
    ] = INHERIT
    tunnel: Annotated[
        InheritedDuration | None,
        Field(
            description=(
                "Longest silence of a connection that has switched to another protocol. inherit "
                "and null as of response_body."
            ),
            examples=["12h"],
        ),
    ] = INHERIT


Limits = Annotated[RequestLimits, Field(description="Bounds of requests.")]
Timeouts = Annotated[RequestTimeouts, Field(description="How long each step may take.")]
