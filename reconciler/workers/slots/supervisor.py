"""Keeps one worker process per slot: as many as wanted, replaced, ended, left for the next daemon.

Each slot is one task, tended by `tending` beside. Called by `reconciler.daemon`;
`reconciler.transaction.runner` uses the workers in service.
"""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path

from reconciler import log
from reconciler.parts import Parts
from reconciler.workers.linked.worker import Worker
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.processes import spawning, worker_sockets
from reconciler.workers.processes.cores import usable_cores
from reconciler.workers.processes.process import Process
from reconciler.workers.slots.bringup import Bringup
from reconciler.workers.slots.former import Former
from reconciler.workers.slots.leaving import LeavingWorkers
from reconciler.workers.slots.slot import Roster, Slot, WorkerObserver
from reconciler.workers.slots.tending import Tending


class Supervisor:
    """The slots of all workers, and the lock of the transactions over them."""

    def __init__(
        self,
        runtime_dir: Path,
        epoch: int,
        roster: Roster,
        sockets: SocketTable,
        bringup: Bringup,
        parts: Parts,
        observer: WorkerObserver,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._sockets = sockets
        self._parts = parts
        self._observer = observer
        self._roster = roster
        self.exclusive = asyncio.Lock()
        """Held while a transaction is open, and while a worker enters service."""
        self._leaving = LeavingWorkers()
        self._tending = Tending(
            runtime_dir, epoch, sockets, bringup, self._leaving, self.exclusive, observer
        )

    @property
    def slots(self) -> list[Slot]:
        """The places of all workers."""
        return self._roster.slots

    @property
    def in_service(self) -> dict[int, Worker]:
        """The workers that hold the running generation, or did before the open transaction."""
        return self._roster.in_service

    @property
    def complete(self) -> bool:
        """Whether every slot has its worker."""
        return len(self.in_service) == len(self.slots)

    @property
    def counts_all(self) -> bool:
        """Whether the slots count all requests in flight.

        Not of a worker that has not been found yet, or is led no more, nor where we leave them.
        """
        is_known = bool(self.slots) and self._tending.has_looked and not self._leaving.pids
        return is_known and all(slot.former is None for slot in self.slots)

    @property
    def is_stuck(self) -> bool:
        """Whether nobody serves, and no worker can be brought to what runs."""
        return bool(self.slots) and all(
            slot.is_refused and slot.worker is None and slot.former is None for slot in self.slots
        )

    def formers(self) -> list[Former]:
        """Those that serve and are led no more."""
        found = (slot.former for slot in self.slots)
        return [former for former in found if former is not None and former.process.alive]

    def processes(self) -> set[int]:
        """All that are led, or seen off, by us."""
        found = set(self._leaving.pids)
        for slot in self.slots:
            led = [each.process.pid for each in (slot.worker, slot.former) if each is not None]
            found.update(led, (slot.pid,))
        return found

    def unreachable(self) -> list[Worker]:
        """Those in service whose socket a later daemon would not find."""
        return [
            worker
            for worker in self.in_service.values()
            if not worker_sockets.is_found(self._runtime_dir, worker.id)
        ]

    def scale(self, count: int) -> None:
        """Starts or drains workers until there are `count`."""
        cores = usable_cores()
        for number in range(len(self.slots), count):
            slot = Slot(number, cores[number % len(cores)])
            self.slots.append(slot)
            self._tending.expect(slot)
            slot.part = self._parts.start(f"worker {number}", partial(self._tending.keep, slot))
        surplus, self._roster.slots = self.slots[count:], self.slots[:count]
        for slot in surplus:
            log.info("draining a surplus worker", worker=slot.id)
            # Before the worker stops accepting: what would wait in our copy would wait for ever.
            self._sockets.settle_worker(slot.id)
            self._dismiss(slot, self._observer.drain_ms())

    def replace(self, worker: int, reason: str) -> None:
        """Puts another worker in the place of one that cannot be trusted; it serves until then."""
        slot = next((slot for slot in self.slots if slot.id == worker), None)
        if slot is None or slot.worker is None:
            return
        log.warning("replacing a worker", worker=worker, reason=reason)
        slot.problem = slot.worker.unwanted = reason
        slot.is_parting = True
        slot.worker.link.close(reason)

    def retire_formers(self) -> None:
        """Every worker in service holds a commit: nobody depends on those before them any more."""
        for slot in self.slots:
            if slot.worker is not None and not slot.stands_by:
                self._tending.retire_former(slot)
        # Those take connections first.
        self._tending.standing_by.look_again()

    async def stop(self, drain_ms: int) -> None:
        """Ends all workers: drained for at most `drain_ms`, then by force."""
        slots, self._roster.slots = self.slots, []
        self._sockets.close()
        for slot in slots:
            self._dismiss(slot, drain_ms)
        await self._leaving.ended()

    def kill(self) -> None:
        """Ends what is still draining, now."""
        self._leaving.kill()

    def reopen_logs(self) -> None:
        """Has every worker open its access log anew, after the file was moved away."""
        for slot in self.slots:
            for each in (slot.worker, slot.former):
                if each is not None:
                    each.process.signal(signal.SIGUSR1)

    def detach(self) -> None:
        """Leaves the workers running, for the next daemon to adopt."""
        slots, self._roster.slots = self.slots, []
        for slot in slots:
            if slot.part is not None:
                slot.part.cancel()
            if slot.former is not None:
                slot.former.leave()
            if slot.worker is not None:
                Former.of(slot.worker, "").leave()

    def _dismiss(self, slot: Slot, drain_ms: int) -> None:
        worker, slot.worker = slot.worker, None
        seen_off = {slot.started, slot.former.process.pid if slot.former is not None else 0}
        self._tending.retire_former(slot)
        if slot.part is not None:
            slot.part.cancel()
        if worker is None:
            if spawning.is_worker(slot.started, slot.id):
                Process(slot.started).signal(signal.SIGKILL)
            # One may serve that is not adopted yet, nor even found.
            for pid, number in self._tending.found_by_now().items():
                if number == slot.id and pid not in seen_off and spawning.is_worker(pid, number):
                    self._leaving.drain(Former(number, Process(pid), None, ""), drain_ms)
            return
        worker.leaving = True
        self._leaving.drain(Former.of(worker, ""), drain_ms)
