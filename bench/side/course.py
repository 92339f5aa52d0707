"""What is measured of proxies side by side. Made by `bench.__main__`, for two of its commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Course:
    """How often, how long, with how many connections of clients."""

    rounds: int
    seconds: int
    connections: Sequence[int]
    body_bytes: int
    # All on one core: a proxy then finds many events at once, as one does that has no time left.
    one_core: bool
    # HAProxy splices.
    splices: bool = False
    # Each request has a connection of its own.
    fresh: bool = False
