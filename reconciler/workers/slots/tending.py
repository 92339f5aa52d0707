"""One slot's life: a worker is adopted or started, brought up, and replaced when it ends.

A worker enters service only when it holds the running generation, and never while a transaction is
open (`exclusive`), so that the set of workers of a transaction is fixed. It takes most of the state
in before that, beside the transactions of the others. One that serves is never ended before its
successor holds a commit, whatever is wrong with it: it is a `Former` until then, beside which the
successor is brought up. Called by `supervisor` beside.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from pathlib import Path

from reconciler import log
from reconciler.errors import MachineError
from reconciler.workers.linked.link import Link, WorkerGoneError, greet
from reconciler.workers.linked.worker import Worker
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.processes import lost_sockets, spawning, worker_sockets
from reconciler.workers.processes.process import Process
from reconciler.workers.slots.bringup import Bringup, RefusedStateError
from reconciler.workers.slots.former import Former
from reconciler.workers.slots.leaving import LeavingWorkers
from reconciler.workers.slots.slot import Slot, WorkerObserver
from reconciler.workers.slots.standing_by import StandingBy
from schemas.messages import wire

# An adopted worker only has to wake up; a new one has to load its modules first.
ADOPT_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0
# The first successor comes at once; a worker that keeps dying is not restarted in a tight loop.
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
_STABLE_AFTER_S = 10.0


class Tending:
    """Tends every slot, each in a task of its own."""

    def __init__(
        self,
        runtime_dir: Path,
        epoch: int,
        sockets: SocketTable,
        bringup: Bringup,
        leaving: LeavingWorkers,
        exclusive: asyncio.Lock,
        observer: WorkerObserver,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._epoch = epoch
        self._sockets = sockets
        self._bringup = bringup
        self._leaving = leaving
        self._exclusive = exclusive
        self._observer = observer
        # Slots that may still find a running worker. Until all have looked, sockets are missing
        # from the table that such a worker holds, and a bind would only find ourselves.
        self._looking: set[int] = set()
        self._scan: asyncio.Future[dict[int, int]] | None = None
        self._all_looked = asyncio.Event()
        self._all_looked.set()
        self.standing_by = StandingBy(bringup, sockets, exclusive)

    @property
    def has_looked(self) -> bool:
        """Whether every slot has found the worker that an earlier daemon left, if there is one."""
        return self._all_looked.is_set()

    def expect(self, slot: Slot) -> None:
        """Before `keep` is started: it may find a worker that runs."""
        self._looking.add(slot.id)
        self._all_looked.clear()

    async def keep(self, slot: Slot) -> None:
        """Has a worker serve in the slot, and another when that ends, until cancelled."""
        adopt, failures = True, 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._live(slot, adopt)
            except MachineError as error:
                slot.problem = str(error)
                slot.is_refused = isinstance(error, RefusedStateError)
                log.warning("a worker is not in service", worker=slot.id, reason=error)
            except OSError as error:
                # Such as descriptors that have run out.
                slot.problem = error.strerror or str(error)
                log.warning("a worker is not in service", worker=slot.id, reason=slot.problem)
            except Exception as error:  # noqa: BLE001  # one slot's fault must not end the others
                slot.problem = log.internal_error(f"supervising worker {slot.id}", error)
            adopt = False
            stable = slot.served and (slot.was_killed or loop.time() - began > _STABLE_AFTER_S)
            failures = 0 if stable else failures + 1
            slot.restarts += 1
            if failures > 1:
                delay = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** (failures - 2))
                await asyncio.sleep(delay)

    async def _live(self, slot: Slot, adopt: bool) -> None:
        """One worker's life in the slot, from its start to its end."""
        slot.served = slot.was_killed = False
        try:
            worker = await self._adopt(slot) if adopt else None
        finally:
            self._looked(slot)
        if worker is not None and self._bringup.holds_more(worker):
            self.standing_by.keep(
                self._keep_serving(slot, worker, "this version cannot read it all")
            )
            worker = None
        elif worker is not None and (worker.is_foreign or self._bringup.is_former(worker)):
            self._keep_serving(slot, worker, "it is of another version")
            worker = None
        if worker is None:
            worker = await self._start(slot)
        closed = asyncio.Event()
        worker.link.watch(lambda _: closed.set())
        if worker.link.closed:
            closed.set()
        handed_over = False
        try:
            await self._all_looked.wait()
            await self._bring_up(slot, worker)
            slot.problem, slot.served, slot.is_refused = "", True, False
            log.info(
                "worker in service",
                worker=slot.id,
                pid=worker.process.pid,
                cpu=worker.cpu,
                generation=worker.generation,
            )
            self._observer.workers_changed()
            if slot.stands_by:
                await self.standing_by.until_wanted(slot, worker)
                self._observer.workers_changed()
            if self._bringup.has_commit:
                self.retire_former(slot)
            await closed.wait()
            if not worker.leaving:
                await self._see_why(slot, worker)
            handed_over = True
        except asyncio.CancelledError:
            handed_over = True
            if not worker.leaving:
                worker.link.close("the daemon leaves")
            raise
        finally:
            slot.worker, slot.stands_by = None, False
            slot.counters.retire()
            if not handed_over and not worker.leaving:
                await self._part_with(slot, worker)
            slot.is_parting = False
            self._observer.workers_changed()

    async def _bring_up(self, slot: Slot, worker: Worker) -> None:
        """Returns when the worker is in service. Raises `MachineError`."""
        while True:
            with self._bringup.since() as since:
                await self._bringup.approach(worker, since)
                async with self._exclusive:
                    if not self._bringup.has_begun(worker, since):
                        slot.stands_by = self.standing_by.is_due
                        await self._bringup.enter(worker, since, stands_by=slot.stands_by)
                        slot.worker = worker
                        return

    async def _see_why(self, slot: Slot, worker: Worker) -> None:
        """Why its connection has ended. Always raises."""
        if worker.unwanted:
            slot.was_killed = True
            raise WorkerGoneError(worker.unwanted)
        # A connection may end before its process: only the exit code tells why.
        if await worker.process.wait(0.5):
            slot.was_killed = worker.process.was_killed
            raise WorkerGoneError(worker.process.exit_text())
        raise WorkerGoneError(f"process {worker.process.pid} has closed its connection")

    async def _part_with(self, slot: Slot, worker: Worker) -> None:
        """What becomes of one that did not come into service, or is in service no more."""
        if not worker.serves or not worker.process.alive or worker.process.stopped:
            worker.link.close("replaced")
            await worker.process.kill()
        elif slot.former is not None:
            # Another one serves in its place already.
            self._leaving.see_off(Former.of(worker, "it is not needed"), self._observer.drain_ms())
        else:
            self._keep_serving(slot, worker, worker.unwanted or "it cannot be led")

    def _keep_serving(self, slot: Slot, worker: Worker, reason: str) -> Former:
        slot.former = former = Former.of(worker, reason)
        # What it was given last may still be on the way to it.
        if slot.former.link is None:
            self._sockets.share_with(slot.id)
        slot.pid = 0
        slot.counters.retire()
        log.warning(
            "a worker serves until its successor does",
            worker=slot.id,
            pid=worker.process.pid,
            reason=reason,
        )
        return former

    def found_by_now(self) -> dict[int, int]:
        """Return the number of each worker that serves, adopted or not, by its process."""
        try:
            return lost_sockets.serving(self._runtime_dir)
        except OSError:
            # Told by the start.
            return {}

    def _looked(self, slot: Slot) -> None:
        self._looking.discard(slot.id)
        if not self._looking:
            self._scan = None
            self._all_looked.set()

    async def _adopt(self, slot: Slot) -> Worker | None:
        """The worker that an earlier daemon left in this slot."""
        found = await self._find(slot)
        if found is None:
            return None
        connection, pid = found
        link = Link(connection, partial(self._unasked, slot))
        try:
            welcome = await greet(link, self._epoch, ADOPT_TIMEOUT_S)
        except WorkerGoneError as error:
            link.close("not adopted")
            if spawning.is_worker(pid, slot.id):
                self._keep_unled(slot, Former(slot.id, Process(pid), None, str(error)))
            return None
        worker = Worker(link, Process(welcome.pid), welcome)
        self._welcomed(slot, worker, welcome)
        log.info("adopted a running worker", worker=slot.id, pid=welcome.pid)
        return worker

    async def _find(self, slot: Slot) -> tuple[socket.socket, int] | None:
        """(connection, pid) of the worker that serves in a slot and can be connected to.

        One that cannot is kept, and nobody is adopted in its place.
        """
        pids = await self._serving(slot.id)
        found = _connect(worker_sockets.socket_path(self._runtime_dir, slot.id))
        beside = _connect(worker_sockets.successor_path(self._runtime_dir, slot.id))
        if found is None and beside is not None and not pids - {beside[1]}:
            # The last daemon was ended while a successor came up.
            worker_sockets.succeed(self._runtime_dir, slot.id)
            found, beside = beside, None
        successor = 0
        if beside is not None:
            connection, successor = beside
            connection.close()
        others = (pids | {successor}) - {0, found[1] if found else 0}
        unled = [
            Former(slot.id, Process(pid), None, "it takes no connections")
            for pid in others
            if spawning.is_worker(pid, slot.id)
        ]
        if found is None and unled:
            # Whoever came up last may hold nothing yet.
            unled.sort(key=lambda each: (each.process.pid == successor, each.process.stopped))
            self._keep_unled(slot, unled.pop(0))
        for each in unled:
            self._leaving.see_off(each, self._observer.drain_ms())
        return found

    async def _serving(self, worker: int) -> set[int]:
        """The processes that serve in a slot, whether they can be connected to or not."""
        if self._scan is None:
            look = asyncio.to_thread(lost_sockets.serving, self._runtime_dir)
            self._scan = asyncio.ensure_future(look)
        try:
            found = await asyncio.shield(self._scan)
        except OSError:
            # Told by the start.
            return set()
        return {pid for pid, number in found.items() if number == worker}

    def _keep_unled(self, slot: Slot, former: Former) -> None:
        pid, reason = former.process.pid, former.reason
        slot.problem = f"process {pid} cannot be led, it serves until another does"
        slot.former = former
        self._sockets.share_with(slot.id)
        log.warning("a running worker cannot be adopted", worker=slot.id, pid=pid, reason=reason)

    async def _start(self, slot: Slot) -> Worker:
        beside = worker_sockets.successor_path if slot.former else worker_sockets.socket_path
        path = beside(self._runtime_dir, slot.id)
        pid = await spawning.spawn_in_thread(path, slot.id, slot.cpu)
        process = Process(pid, is_child=True)
        slot.pid = slot.started = pid
        link: Link | None = None
        try:
            found = worker_sockets.connect(path)
            if found is None:
                raise WorkerGoneError("its control socket is gone")
            link = Link(found[0], partial(self._unasked, slot))
            welcome = await greet(link, self._epoch, START_TIMEOUT_S)
        except BaseException as error:
            if link is not None:
                link.close("it did not start")
            ended = await process.wait(0.2)
            await process.kill()
            if ended and isinstance(error, WorkerGoneError):
                raise WorkerGoneError(f"it did not start: {process.exit_text()}") from None
            raise
        worker = Worker(link, process, welcome)
        self._welcomed(slot, worker, welcome)
        return worker

    def _welcomed(self, slot: Slot, worker: Worker, welcome: wire.Welcome) -> None:
        slot.pid = welcome.pid
        memory, *listeners = worker.link.take_welcome_descriptors()
        for descriptor in listeners:
            self._sockets.adopt(slot.id, descriptor)
        slot.counters.attach(memory)

    def _unasked(self, slot: Slot, link: Link, message: wire.FromWorker) -> None:
        worker = slot.worker
        match message:
            case wire.Stale():
                log.error("a newer daemon has taken the workers over", worker=slot.id)
                self._observer.was_replaced()
            case wire.Failed(reason=reason):
                log.error("a worker failed", worker=slot.id, reason=reason)
            case wire.Leaving() if worker is not None and worker.link is link:
                # Somebody ended it by a signal: it drains while its successor takes the sockets.
                log.warning("a worker leaves by a signal", worker=slot.id, pid=worker.process.pid)
                worker.leaving = True
                self._leaving.await_end(Former.of(worker, ""), self._observer.drain_ms())
                worker.link.close("it leaves")

    def retire_former(self, slot: Slot) -> None:
        """Nobody depends on the one that served before any more."""
        former, slot.former = slot.former, None
        worker_sockets.succeed(self._runtime_dir, slot.id)
        if former is not None:
            self.standing_by.forget(former)
            self._leaving.see_off(former, self._observer.drain_ms())
        self._sockets.share_no_more(slot.id)


def _connect(path: Path) -> tuple[socket.socket, int] | None:
    """As `worker_sockets.connect`; who has no room for one more is known otherwise."""
    try:
        return worker_sockets.connect(path)
    except BlockingIOError:
        return None
