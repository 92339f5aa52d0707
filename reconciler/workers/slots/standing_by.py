"""Workers that hold less than those before them, and so take no connections while these serve.

An older version cannot read all that a newer one has served. What is left of it may be without what
protects a site: so whoever holds all of it serves on as it is, and successors stand by until a
commit is applied, which this version has understood as a whole, or until nobody else serves any
more. Made and called by `reconciler.workers.slots.tending`.
"""

from __future__ import annotations

import asyncio

from reconciler import log
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.slots.bringup import Bringup
from reconciler.workers.slots.former import Former
from reconciler.workers.slots.slot import Slot


class StandingBy:
    """Knows who serves more than what runs, in all slots."""

    def __init__(self, bringup: Bringup, sockets: SocketTable, exclusive: asyncio.Lock) -> None:
        self._bringup = bringup
        self._sockets = sockets
        self._exclusive = exclusive
        self._serving: dict[Former, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    @property
    def is_due(self) -> bool:
        """Whether a part of the requests would get less than the others, from who comes now."""
        return bool(self._serving) and self._bringup.is_in_part

    def keep(self, former: Former) -> None:
        """It holds more than can be read of it."""
        former.holds_more = True
        watch = asyncio.get_running_loop().create_task(self._until_ended(former))
        self._serving[former] = watch

    async def _until_ended(self, former: Former) -> None:
        await former.process.wait()
        self._serving.pop(former, None)
        if not self._serving and self._bringup.is_in_part:
            log.warning("nobody serves what this version cannot read: what it can is served")
        self.look_again()

    def forget(self, former: Former) -> None:
        """Its successor serves."""
        watch = self._serving.pop(former, None)
        if watch is not None:
            watch.cancel()

    def look_again(self) -> None:
        """Workers that stand by may be wanted now."""
        # Of one event some could miss what others have cleared.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until_wanted(self, slot: Slot, worker: Worker) -> None:
        """Returns when the worker takes connections. Raises `WorkerGoneError`."""
        log.warning("a worker takes no connections before a commit is applied", worker=slot.id)
        ended = asyncio.get_running_loop().create_future()

        def closed(_: str) -> None:
            if not ended.done():
                ended.set_result(None)

        worker.link.watch(closed)
        try:
            while self.is_due and not worker.link.closed:
                if slot.former is None or not slot.former.process.alive:
                    # What came to sockets that nobody accepts from would wait for ever.
                    self._sockets.settle_worker(slot.id)
                changed = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait([changed, ended], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            worker.link.unwatch(closed)
        if worker.link.closed:
            raise WorkerGoneError("its connection has ended")
        async with self._exclusive:
            await self._bringup.take_connections(worker)
            slot.stands_by = False
