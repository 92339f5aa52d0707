"""Says whether something takes as long as it should, on a machine that is busy with other things.

A timer may never fire early. It may fire late by what the scheduler takes, once; so the shortest of
a few attempts tells a timeout from twice as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

ATTEMPTS = 3
FACTOR = 1.6
"""More than what is left of a busy machine in its best attempt, and less than two."""
# The engine's clock counts whole milliseconds, and is read once a turn.
_GRAIN_S = 0.005

T = TypeVar("T")


def lasts(seconds: float, attempt: Callable[[], T]) -> T:
    """Run an attempt that should last so long, again if it was late; return what it returned."""
    taken: list[float] = []
    for _ in range(ATTEMPTS):
        began = time.monotonic()
        result = attempt()
        taken.append(time.monotonic() - began)
        assert taken[-1] > seconds - _GRAIN_S, f"took {taken[-1]:.3f} s instead of {seconds} s"
        if taken[-1] < seconds * FACTOR:
            return result
    shown = ", ".join(f"{each:.3f} s" for each in taken)
    raise AssertionError(f"took {shown} instead of {seconds} s")
