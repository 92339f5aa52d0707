"""Threads in which an authority is asked: one may hang, and nobody waits for it at the end.

The loop's own threads would keep a daemon from leaving for as long as an authority takes. Called by
`reconciler.acme.certifying`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from reconciler.acme.order import OrderError

Result = TypeVar("Result")

HANGING_MAX = 16
"""So many that were given up may go on, for ever if need be."""


class OrderThreads:
    """Those of one daemon."""

    def __init__(self) -> None:
        self._left: set[threading.Thread] = set()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, or raise what it raises. Cancelled, it goes on for nobody."""
        self._left = {each for each in self._left if each.is_alive()}
        if len(self._left) >= HANGING_MAX:
            raise OrderError(f"{len(self._left)} orders hang that were given up: start it anew")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def tell(result: Callable[[], None]) -> None:
            # The loop may have ended meanwhile.
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: None if done.done() else result())

        def run() -> None:
            try:
                found = work()
            except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
                failure = error
                tell(lambda: done.set_exception(failure))
            else:
                tell(lambda: done.set_result(found))

        thread = threading.Thread(target=run, name="certificate order", daemon=True)
        thread.start()
        try:
            return await done
        except asyncio.CancelledError:
            self._left.add(thread)
            raise
