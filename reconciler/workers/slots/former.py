"""A worker that serves and is led no more: it stays until its successor holds a commit.

What it serves may be of another version, or nobody knows what it is, or it does not answer: none of
that is a reason to end it while nobody else serves. Made by `reconciler.workers.slots.tending`.
"""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass

from reconciler.workers.linked.link import Link, WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.processes.process import Process
from schemas.changes.state import EMPTY_DIGEST
from schemas.messages import wire


@dataclass(eq=False, slots=True)
class Former:
    """The process, and its link as long as that is of use."""

    id: int
    process: Process
    link: Link | None
    reason: str
    """Why it is led no more."""
    generation: int = 0
    digest: str = EMPTY_DIGEST
    commit: str = ""
    is_foreign: bool = False
    """It has other messages; see `Worker.is_foreign`."""
    holds_more: bool = False
    """Its successor could read a part of that only, and takes no connections before a commit."""

    @classmethod
    def of(cls, worker: Worker, reason: str) -> Former:
        """What a worker becomes when it is led no more."""
        link = None if worker.link.closed else worker.link
        held = (worker.generation, worker.digest, worker.commit)
        return cls(worker.id, worker.process, link, reason, *held, worker.is_foreign)

    def drain(self, drain_ms: int) -> None:
        """Have it accept no more and end behind its last request."""
        if self.process.stopped:
            # It would only keep connections waiting that it does not answer.
            self.process.signal(signal.SIGKILL)
            return
        if self.link is None or self.link.closed or self.is_foreign:
            # What every version understands.
            self.process.signal(signal.SIGTERM)
            return
        with contextlib.suppress(WorkerGoneError):
            self.link.ask(wire.Shutdown(drain_ms=drain_ms))

    def leave(self) -> None:
        """Forget it; it goes on serving."""
        self.process.forget()
        if self.link is not None:
            self.link.unwatch_all()
            self.link.close("the daemon leaves")
