"""Whether each worker still answers: asked every few seconds, whatever else happens.

A worker that hangs (a stopped process, a loop that never turns) looks like one that is idle until
somebody asks it something. So each is asked what costs one turn of its engine: to take the drained
backends, which it has. While anything else waits for its answer, that is the question, also in the
middle of a commit; what takes its time there has more, by its size. One that has not answered for
some seconds is told in `status` and `/healthz`; one that goes on like that is replaced. Seconds are
turns of this loop, so that a daemon that was paused blames nobody. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler import log
from reconciler.parts import heard_again_within, until_turn
from reconciler.workers.linked.worker import Worker
from reconciler.workers.slots.supervisor import Supervisor
from schemas.messages import wire

_TURN_S = 1.0
_TURN_WITHIN_S = 30.0
# In turns. What is asked every third is noticed within ten seconds of its falling silent.
ASK_EVERY = 3
SILENT_AFTER = 5
REPLACE_AFTER = 20


class Liveness:
    """Goes round the workers in service."""

    def __init__(self, supervisor: Supervisor, overlay: Callable[[], wire.Overlay]) -> None:
        self._supervisor = supervisor
        self._overlay = overlay
        self._unanswered: dict[Worker, tuple[int, int]] = {}
        self._turn = 0

    async def run(self) -> None:
        """Look at all workers every second, until cancelled."""
        while True:
            heard_again_within(_TURN_WITHIN_S)
            await asyncio.sleep(until_turn(_TURN_S))
            self.look()

    def look(self) -> None:
        """Ask those that are due, and judge those that owe an answer."""
        self._turn += 1
        workers = list(self._supervisor.in_service.values())
        self._unanswered = {worker: self._unanswered.get(worker, (-1, 0)) for worker in workers}
        for worker in workers:
            self._look_at(worker)
            if worker.link.awaited is None and self._turn % ASK_EVERY == 0:
                worker.link.ask(self._overlay())

    def _look_at(self, worker: Worker) -> None:
        awaited = worker.link.awaited
        question, turns = self._unanswered[worker]
        if awaited is None:
            question, turns = -1, 0
        elif awaited.number != question:
            question, turns = awaited.number, 0
        else:
            turns += 1
        self._unanswered[worker] = question, turns
        # How long a change may take depends on its size.
        beyond = turns - (awaited.work_s if awaited else 0.0)
        self._tell(worker, is_silent=beyond >= SILENT_AFTER)
        if beyond >= REPLACE_AFTER:
            self._supervisor.replace(worker.id, f"it has not answered for {turns:.0f} s")

    def _tell(self, worker: Worker, *, is_silent: bool) -> None:
        if is_silent == worker.is_silent:
            return
        worker.is_silent = is_silent
        if is_silent:
            log.warning("a worker does not answer", worker=worker.id, pid=worker.process.pid)
        else:
            log.info("a worker answers again", worker=worker.id, pid=worker.process.pid)
