"""The two-phase transaction over all workers, sans-I/O: events in, commands out, by a table.

One machine runs one attempt to bring one generation to a fixed set of workers.
`reconciler.transaction.runner` executes its commands (database, sockets, timers) and feeds it what
happened. Presumed abort: only the commit record decides. Before it any refusal, death or silence
aborts everywhere; after it the transaction only goes forward, and a worker that fails is replaced
by one that starts at the new generation.

Invariants, checked by `check_invariants` and the property tests:
  1. `SendCommit` is never issued before `CommitRecorded`, nor after an abort began.
  2. `SendAbort` is never issued once the commit record may be durable.
  3. `SendRelease` is never issued while a worker of the set may still serve the base generation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

from reconciler.transaction.events import (
    Cancelled,
    Command,
    CommitRecorded,
    DeadlinePassed,
    Event,
    Failure,
    Phase,
    RecordCommit,
    RecordDone,
    RecordFailed,
    ReplaceWorker,
    SendAbort,
    SendCommit,
    SendPrepare,
    SendRelease,
    SetDeadline,
    Started,
    StreamFailed,
    WorkerAborted,
    WorkerCommitted,
    WorkerLost,
    WorkerPrepared,
    WorkerRefused,
    WorkerReleased,
)

_Handler: TypeAlias = "Callable[[Transaction, Event], list[Command]]"


class Transaction:
    """One attempt. `handle` every event and execute the commands it returns, in order."""

    def __init__(self, workers: frozenset[int], digest: str) -> None:
        self.phase = Phase.NEW
        self.digest = digest
        self.failure: Failure | None = None
        self.waiting: set[int] = set()
        self._workers = set(workers)
        self._told: set[int] = set()
        self._commit_ordered = False

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in (Phase.DONE, Phase.ABORTED)

    def handle(self, event: Event) -> list[Command]:
        """Advances by one event. An event that means nothing in this phase is ignored."""
        handler = self._TABLE.get((self.phase, type(event)))
        return handler(self, event) if handler else []

    def check_invariants(self) -> None:
        """For tests: raises `AssertionError` on an impossible combination."""
        aborting = self.phase in (Phase.ABORTING, Phase.ABORTED)
        assert not (aborting and self._commit_ordered), "aborted behind the commit record"
        assert aborting == (self.failure is not None), "an abort has a reason, nothing else has"
        assert self.waiting <= self._workers

    # Before the commit point.

    def _on_started(self, _: Event) -> list[Command]:
        self.phase = Phase.PREPARING
        self.waiting = set(self._workers)
        self._told = set(self._workers)
        sends: list[Command] = [SendPrepare(worker) for worker in sorted(self._workers)]
        return [SetDeadline(Phase.PREPARING), *sends]

    def _on_prepared(self, event: Event) -> list[Command]:
        assert isinstance(event, WorkerPrepared)
        if event.worker not in self.waiting:
            return []
        if event.digest != self.digest:
            reason = f"worker {event.worker} computed the digest {event.digest}, not {self.digest}"
            replace = ReplaceWorker(event.worker, reason)
            self._drop(event.worker)
            return [replace, *self._abort(Failure(reason, transient=True, costly=True))]
        self.waiting.discard(event.worker)
        if self.waiting:
            return []
        self.phase = Phase.DECIDING
        self._commit_ordered = True
        return [RecordCommit()]

    def _on_refused(self, event: Event) -> list[Command]:
        assert isinstance(event, WorkerRefused)
        if event.worker not in self.waiting:
            return []
        failure = Failure(event.reason, transient=False, kind=event.kind, name=event.name)
        return self._abort(failure)

    def _on_early_loss(self, event: Event) -> list[Command]:
        assert isinstance(event, WorkerLost)
        if event.worker not in self._workers:
            return []
        self._drop(event.worker)
        return self._abort(Failure(f"worker {event.worker} died", transient=True, costly=True))

    def _on_prepare_deadline(self, _: Event) -> list[Command]:
        names = ", ".join(f"worker {worker}" for worker in sorted(self.waiting))
        return self._abort(Failure(f"{names} did not prepare in time", transient=True))

    def _on_record_failed(self, event: Event) -> list[Command]:
        assert isinstance(event, RecordFailed)
        self._commit_ordered = False
        return self._abort(Failure(event.reason, transient=True, stage="journal"))

    def _on_stream_failed(self, event: Event) -> list[Command]:
        assert isinstance(event, StreamFailed)
        return self._abort(Failure(event.reason, transient=True))

    def _on_cancelled(self, _: Event) -> list[Command]:
        return self._abort(Failure("the daemon ended", transient=True))

    def _abort(self, failure: Failure) -> list[Command]:
        self.failure = failure
        self.waiting = self._told & self._workers
        if not self.waiting:
            self.phase = Phase.ABORTED
            return []
        self.phase = Phase.ABORTING
        sends: list[Command] = [SendAbort(worker) for worker in sorted(self.waiting)]
        return [SetDeadline(Phase.ABORTING), *sends]

    def _on_abort_answered(self, event: Event) -> list[Command]:
        assert isinstance(event, WorkerAborted | WorkerLost)
        self.waiting.discard(event.worker)
        if not self.waiting:
            self.phase = Phase.ABORTED
        return []

    def _on_abort_deadline(self, _: Event) -> list[Command]:
        silent, self.waiting = sorted(self.waiting), set()
        self.phase = Phase.ABORTED
        return [ReplaceWorker(worker, "it did not answer an abort") for worker in silent]

    # Behind the commit point.

    def _on_commit_recorded(self, _: Event) -> list[Command]:
        self.phase = Phase.COMMITTING
        self.waiting = set(self._workers)
        sends: list[Command] = [SendCommit(worker) for worker in sorted(self._workers)]
        return [SetDeadline(Phase.COMMITTING), *sends, *self._release_when_committed()]

    def _on_committed(self, event: Event) -> list[Command]:
        assert isinstance(event, WorkerCommitted)
        if event.worker not in self.waiting:
            return []
        commands: list[Command] = []
        if event.digest != self.digest:
            reason = f"it committed the digest {event.digest}, not {self.digest}"
            commands.append(ReplaceWorker(event.worker, reason))
            self._drop(event.worker)
        self.waiting.discard(event.worker)
        return [*commands, *self._release_when_committed()]

    def _on_late_loss(self, event: Event) -> list[Command]:
        assert isinstance(event, WorkerLost)
        self._drop(event.worker)
        if self.phase is Phase.COMMITTING:
            return self._release_when_committed()
        return self._finish_when_released() if self.phase is Phase.RELEASING else []

    def _on_commit_deadline(self, _: Event) -> list[Command]:
        silent = sorted(self.waiting)
        for worker in silent:
            self._drop(worker)
        replaces = [ReplaceWorker(worker, "it did not commit in time") for worker in silent]
        return [*replaces, *self._release_when_committed()]

    def _release_when_committed(self) -> list[Command]:
        if self.waiting:
            return []
        self.phase = Phase.RELEASING
        self.waiting = set(self._workers)
        sends: list[Command] = [SendRelease(worker) for worker in sorted(self._workers)]
        return [SetDeadline(Phase.RELEASING), *sends, *self._finish_when_released()]

    def _on_released(self, event: Event) -> list[Command]:
        assert isinstance(event, WorkerReleased)
        self.waiting.discard(event.worker)
        return self._finish_when_released()

    def _on_release_deadline(self, _: Event) -> list[Command]:
        silent = sorted(self.waiting)
        self.waiting = set()
        replaces = [ReplaceWorker(worker, "it did not answer a release") for worker in silent]
        return [*replaces, *self._finish_when_released()]

    def _finish_when_released(self) -> list[Command]:
        if self.waiting:
            return []
        self.phase = Phase.DONE
        return [RecordDone()]

    def _drop(self, worker: int) -> None:
        self._workers.discard(worker)
        self.waiting.discard(worker)

    # What is not in the table is ignored: repeated and late replies are normal, not errors.
    _TABLE: ClassVar[dict[tuple[Phase, type[Event]], _Handler]] = {
        (Phase.NEW, Started): _on_started,
        (Phase.NEW, WorkerLost): _on_early_loss,
        (Phase.NEW, Cancelled): _on_cancelled,
        (Phase.PREPARING, WorkerPrepared): _on_prepared,
        (Phase.PREPARING, WorkerRefused): _on_refused,
        (Phase.PREPARING, WorkerLost): _on_early_loss,
        (Phase.PREPARING, StreamFailed): _on_stream_failed,
        (Phase.PREPARING, DeadlinePassed): _on_prepare_deadline,
        (Phase.PREPARING, Cancelled): _on_cancelled,
        (Phase.DECIDING, CommitRecorded): _on_commit_recorded,
        (Phase.DECIDING, RecordFailed): _on_record_failed,
        (Phase.DECIDING, WorkerLost): _on_late_loss,
        (Phase.COMMITTING, WorkerCommitted): _on_committed,
        (Phase.COMMITTING, WorkerLost): _on_late_loss,
        (Phase.COMMITTING, DeadlinePassed): _on_commit_deadline,
        (Phase.RELEASING, WorkerReleased): _on_released,
        (Phase.RELEASING, WorkerLost): _on_late_loss,
        (Phase.RELEASING, DeadlinePassed): _on_release_deadline,
        (Phase.ABORTING, WorkerAborted): _on_abort_answered,
        (Phase.ABORTING, WorkerLost): _on_abort_answered,
        (Phase.ABORTING, DeadlinePassed): _on_abort_deadline,
    }
