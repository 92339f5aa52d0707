"""The place of one worker, and who is told what becomes of it.

Filled by `tending` beside; read by whoever tells of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from reconciler.parts import Part
from reconciler.workers.counting.counters import Counters
from reconciler.workers.linked.worker import Worker
from reconciler.workers.slots.former import Former


@dataclass(eq=False, slots=True)
class Slot:
    """The place of one worker: it keeps its number, its core and its sockets."""

    id: int
    cpu: int
    worker: Worker | None = None
    counters: Counters = field(default_factory=Counters)
    restarts: int = 0
    problem: str = ""
    pid: int = 0
    started: int = 0
    """The process that was started for it last; any other was found, and served before."""
    part: Part | None = None
    is_refused: bool = False
    """The last worker for it did not take what runs."""
    # Serves until its successor does.
    former: Former | None = None
    stands_by: bool = False
    """Its worker takes no connections: one that is led no more serves what holds more than that."""
    is_parting: bool = False
    """Its worker is to be replaced, and may still have sockets that it was given last."""
    # Of the last worker: whether it came into service, and whether somebody else ended it.
    served: bool = False
    was_killed: bool = False


class Roster:
    """The places of all workers; whoever tells workers something knows this alone."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []

    @property
    def in_service(self) -> dict[int, Worker]:
        """The workers that hold the running generation, or did before the open transaction."""
        return {
            slot.id: slot.worker
            for slot in self.slots
            if slot.worker is not None and not slot.worker.link.closed
        }

    def workers(self) -> list[Worker]:
        """Those in service."""
        return list(self.in_service.values())


class WorkerObserver(Protocol):
    """Who has to know what becomes of the workers: `reconciler.daemon.observing`."""

    def workers_changed(self) -> None:
        """One came into service, or left it."""

    def was_replaced(self) -> None:
        """Another daemon has taken the workers over."""

    def drain_ms(self) -> int:
        """How long requests of a worker that leaves may take, now."""
