"""Runs what blocks in a thread of its own, for which the process does not wait at its end.

The loop's own threads would keep a daemon from leaving for as long as an authority takes to answer.
Called by `reconciler.acme.certifying`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def apart(work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise what it raises. Cancelled, it goes on for nobody."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

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

    threading.Thread(target=run, name="apart", daemon=True).start()
    return await done
