"""Threads in which somebody far away is asked: one may hang, and nobody waits for it at the end.

The loop's own threads would keep a daemon from leaving for as long as an answer takes. Called by
`reconciler.acme.certifying`, `reconciler.issuers.keeping` and `reconciler.source.watcher`;
`OwnThread` by `reconciler.loop.applied_ref`, whose disk is near, and may stand still.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")

HANGING_MAX = 16
"""So many that were given up may go on, for ever if need be."""


class OwnThreads:
    """Those of one part of the daemon."""

    def __init__(self, name: str, refused: Callable[[str], Exception]) -> None:
        """`refused` makes the error of a sentence, where too many hang."""
        self._name, self._refused = name, refused
        self._left: set[threading.Thread] = set()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, or raise what it raises. Cancelled, it goes on for nobody."""
        self._left = {each for each in self._left if each.is_alive()}
        if len(self._left) >= HANGING_MAX:
            raise self._refused(f"{len(self._left)} attempts hang that were given up")
        done, run = _begun(work)
        thread = threading.Thread(target=run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise self._refused("the system has no thread to give") from None
        try:
            return await done
        except asyncio.CancelledError:
            self._left.add(thread)
            raise


class OwnThread:
    """One for a part that asks often: what it is asked is done one behind the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: SimpleQueue[Callable[[], None] | None] | None = None

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, or raise what it raises. Cancelled, it goes on for nobody.

        Raises `RuntimeError` where the system has no thread to give.
        """
        done, run = _begun(work)
        if self._asked is None:
            asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
            threading.Thread(target=_each, args=(asked,), name=self._name, daemon=True).start()
            self._asked = asked
            weakref.finalize(self, asked.put, None)
        self._asked.put(run)
        return await done


def _begun(work: Callable[[], Result]) -> tuple[asyncio.Future[Result], Callable[[], None]]:
    """What is waited for on the loop, and what a thread does."""
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

    return done, run


def _each(asked: SimpleQueue[Callable[[], None] | None]) -> None:
    """Do what is asked for; None is the end."""
    while (work := asked.get()) is not None:
        work()
        # Whoever asked last would never be let go of, nor end this thread.
        del work
