"""The audit: asks each worker now and then what it really holds, and replaces one that drifted.

A digest that was computed along with the changes says what a worker should hold. The audit has it
computed anew from the entities themselves, so a table that was altered in place (a flipped bit, a
bug, a debugger) is found before anybody looks for it. The worker cannot be trusted any more: its
successor starts at the running state. Called by `reconciler.daemon`; `status` and the metrics tell.
"""

from __future__ import annotations

import asyncio
import contextlib

from reconciler import log
from reconciler.parts import until_turn
from reconciler.patience import within
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.history import now
from reconciler.storage.store import Store
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.watching.without import named_by
from schemas.messages import wire
from schemas.record import record

AUDIT_EVERY_S = 10.0
_ANSWER_S = 30.0
_AGAIN_S = 0.2
_TRIES = 20
_NAMED_MAX = 3
# Of nearly all workers it is a look at an empty set.
_LOST_EVERY_S = 2.0


@record
class Drift:
    """One worker that did not hold what it should have."""

    worker: int
    found_at: str
    generation: int
    digest: str
    differing: tuple[str, ...]
    """`KIND/NAME` of some entities that are not what was committed."""

    def __str__(self) -> str:
        what = ", ".join(self.differing) or "entities that nobody committed"
        return f"drift in generation {self.generation}: {what}"


class Auditing:
    """Goes round the workers, one at a time, so that no two are busy with it at once."""

    def __init__(
        self, store: Store, supervisor: Supervisor, every_s: float = AUDIT_EVERY_S
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._every_s = every_s
        self.last: Drift | None = None
        self.count = 0

    async def run(self) -> None:
        """Audit all workers again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        turn_s = min(_LOST_EVERY_S, self._every_s)
        due = loop.time() + self._every_s
        while True:
            await asyncio.sleep(until_turn(turn_s))
            for worker in list(self._supervisor.in_service.values()):
                if worker.without:
                    self._look_for_lost(worker)
            if loop.time() < due - turn_s / 2:
                continue
            due = loop.time() + self._every_s
            for worker in list(self._supervisor.in_service.values()):
                await self._audit(worker)

    def _look_for_lost(self, worker: Worker) -> None:
        """One that does without a file gets a successor as soon as that is back."""
        holds, state = self._store.materials.holds, self._store.running.state
        with contextlib.suppress(DamagedError, OSError):
            back = frozenset(digest for digest in worker.without if holds(digest))
            if back and (names := named_by(state, back)):
                what = ", ".join(map(str, names[:_NAMED_MAX]))
                self._supervisor.replace(worker.id, f"files that it was without are back: {what}")

    async def _audit(self, worker: Worker) -> None:
        found = await self._answer(worker)
        running = self._store.running
        if not isinstance(found, wire.Audited) or found.generation != running.generation:
            return
        if found.digest != running.state.digest:
            self._drifted(worker, found)

    async def _answer(self, worker: Worker) -> wire.FromWorker | None:
        """What a worker says; None when it does not: whether it lives is for others to find out.

        It gives way to whatever else is asked and goes on from there, but where that goes on for
        ever.
        """
        for tried in range(_TRIES + 1):
            # Between transactions, so that few have to end it.
            async with self._supervisor.exclusive:
                asked = worker.link.ask(wire.Audit(to_the_end=tried == _TRIES))
            try:
                async with within(_ANSWER_S):
                    found = await asked
            except (TimeoutError, WorkerGoneError):
                return None
            if not isinstance(found, wire.AuditEnded):
                return found
            await asyncio.sleep(_AGAIN_S)
        return None

    def _drifted(self, worker: Worker, found: wire.Audited) -> None:
        self.count += 1
        self.last = Drift(
            worker=worker.id,
            found_at=now(),
            generation=found.generation,
            digest=found.digest,
            differing=tuple(found.differing),
        )
        log.error("a worker does not hold what was committed", worker=worker.id, reason=self.last)
        self._supervisor.replace(worker.id, str(self.last))
