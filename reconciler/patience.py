"""Deadlines that count the time in which we ran, and judge only after having read what has come.

A daemon that was stopped, or whose machine was suspended, wakes up with every deadline passed and
every answer unread. A timer of the event loop would fire first and end healthy workers. So a
deadline here is a sum of short slices: a slice that comes late (we did not run, or something held
the loop up) counts as what it was meant to last, and whatever waits to be read is read before the
end is told. Called by whoever waits for a worker, a process, or a peer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

_SLICE_S = 0.5
# A slice that is late by more than this says that we did not run.
_LATE_S = 0.25
# The last one: a turn of the loop, which reads what has come.
_LAST_S = 0.01


class Countdown:
    """Calls `expired` once when we have run for so long, unless it is cancelled before."""

    def __init__(self, seconds: float, expired: Callable[[], None]) -> None:
        self._left = seconds
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._arm()

    def cancel(self) -> None:
        """It is over, or nobody waits any more. Idempotent."""
        self._timer.cancel()

    def _arm(self) -> None:
        slice_s = min(self._left, _SLICE_S) if self._left > 0 else _LAST_S
        due = self._loop.time() + slice_s
        self._timer = self._loop.call_at(due, self._passed, due, slice_s)

    def _passed(self, due: float, slice_s: float) -> None:
        is_late = self._loop.time() - due > _LATE_S
        was_last = self._left <= 0
        self._left -= slice_s
        if was_last and not is_late:
            self._expired()
        else:
            self._arm()


@contextlib.asynccontextmanager
async def within(
    seconds: float | None, is_excused: Callable[[], bool] = lambda: False
) -> AsyncIterator[None]:
    """Like `asyncio.timeout`: raises `TimeoutError` when we have run for so long. None: never.

    `is_excused`: whoever is waited for then may take as long again.
    """
    loop = asyncio.get_running_loop()
    countdown: Countdown | None = None
    async with asyncio.timeout(None) as scope:

        def begin(seconds: float) -> None:
            nonlocal countdown
            countdown = Countdown(seconds, partial(end, seconds))

        def end(seconds: float) -> None:
            if is_excused():
                begin(seconds)
            else:
                scope.reschedule(loop.time())

        if seconds is not None:
            begin(seconds)
        try:
            yield
        finally:
            if countdown is not None:
                countdown.cancel()
