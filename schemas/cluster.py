"""The cluster: a named set of interchangeable backends, and how the proxy deals with them.

The backends nest in the cluster in YAML and are entities of their own in the state, so that one
changed backend is one change: this model holds the cluster without them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from schemas.base import Model, fault, shown
from schemas.listener import TLS_LATER, Protocol
from schemas.units import Duration

Policy = Literal["least_connections", "power_of_two", "random", "round_robin"]
_POLICIES: tuple[str, ...] = get_args(Policy)
_POLICIES_LATER = ("maglev", "rendezvous")


def _policy(value: object) -> object:
    if value in _POLICIES:
        return value
    choice = ", ".join(f'"{policy}"' for policy in _POLICIES)
    if value in _POLICIES_LATER:
        raise fault(f"{shown(value)} is not part of this version yet; choose one of {choice}")
    close = [policy for policy in _POLICIES if _letters(policy) == _letters(value)]
    raise fault(
        f"expected one of {choice}, not {shown(value)}",
        f'did you mean "{close[0]}"?' if close else None,
    )


def _letters(value: object) -> str:
    return "".join(letter for letter in str(value).lower() if letter.isalpha())


class ClusterTimeouts(Model):
    """How long a backend may take for each step."""

    connect: Annotated[
        Duration, Field(description="Until a connection is made; then the next backend is tried.")
    ] = 3_000
    keep_alive: Annotated[
        Duration,
        Field(description="An idle connection is kept this long; keep it under the backend's own."),
    ] = 50_000
    response_body: Annotated[
        Duration, Field(description="Longest pause while the backend sends a body.")
    ] = 60_000
    response_head: Annotated[
        Duration, Field(description="From the whole request to the response's head; then 504.")
    ] = 60_000
    tunnel: Annotated[
        Duration, Field(description="Longest silence of an upgraded connection (WebSocket).")
    ] = 3_600_000


class Cluster(Model):
    """A set of backends that serve the same, and the policy by which one of them is chosen."""

    later: ClassVar[dict[str, str]] = {"tls": TLS_LATER}

    keep_alive_connections: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="Idle connections kept per backend and worker."),
    ] = 1024
    load_balancing: Annotated[
        Policy,
        BeforeValidator(_policy),
        Field(description="How a backend is chosen for a request. Weights count in all of them."),
    ] = "round_robin"
    protocol: Protocol = "http"
    retries: Annotated[
        int,
        Field(ge=0, le=10, description="Further backends tried when connecting to one failed."),
    ] = 2
    timeouts: Annotated[ClusterTimeouts, Field(description="How long a backend may take.")] = (
        ClusterTimeouts()
    )
