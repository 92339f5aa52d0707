"""Something that somebody may wait for is different now: one event for all who wait.

Made by `reconciler.daemon`; announced by the loop and when workers or drains change, waited for by
`reconciler.reporting.control.waiting` and at the start.
"""

from __future__ import annotations

import asyncio
import contextlib


class Announcing:
    """Whoever waits looks anew at what concerns him."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        """Wake all who wait now."""
        told, self._next = self._next, asyncio.Event()
        told.set()

    async def wait(self, timeout_s: float) -> None:
        """Until the next, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._next.wait()
