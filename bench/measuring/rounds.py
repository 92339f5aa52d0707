"""Contenders in turn, round by round. Used by all that compare proxies which are alive at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from bench.measuring.contenders import Contender

_WARM_UP_S = 1
_Sample = TypeVar("_Sample")


def in_turn(
    running: Sequence[Contender],
    one: Callable[[Contender, int], _Sample],
    *,
    rounds: int,
    seconds: int,
) -> dict[str, list[_Sample]]:
    """What each did in each round, by name; `one` measures a contender for some seconds.

    Every other round goes the other way round, so that no place in it is the better one.
    """
    found: dict[str, list[_Sample]] = {contender.name: [] for contender in running}
    for contender in running:
        one(contender, _WARM_UP_S)
    for number in range(rounds):
        for contender in running if number % 2 == 0 else reversed(running):
            found[contender.name].append(one(contender, seconds))
    return found
