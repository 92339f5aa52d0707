"""The vocabularies of the transaction: its phases, the events it is told, the commands it gives.

Events are past participles, commands imperatives. `reconciler.transaction.transaction` decides;
`reconciler.transaction.runner` executes.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from schemas.record import record


class Phase(enum.Enum):
    """Where the attempt stands."""

    NEW = "new"
    PREPARING = "preparing"
    DECIDING = "deciding"
    COMMITTING = "committing"
    RELEASING = "releasing"
    DONE = "done"
    ABORTING = "aborting"
    ABORTED = "aborted"


# Events: what happened.


@record
class Started:
    """The attempt may begin."""


@record
class CommitRecorded:
    """The commit record is durable: the commit point has been passed."""


@record
class RecordFailed:
    """A record could not be made durable."""

    reason: str


@record
class StreamFailed:
    """The change could not be sent, through no fault of a worker."""

    reason: str


@record
class WorkerPrepared:
    """A worker has staged the generation."""

    worker: int
    digest: str


@record
class WorkerRefused:
    """A worker cannot take the generation, because of the entity named."""

    worker: int
    kind: str
    name: str
    reason: str


@record
class WorkerCommitted:
    """A worker serves the generation."""

    worker: int
    digest: str


@record
class WorkerAborted:
    """A worker has dropped what it had staged."""

    worker: int


@record
class WorkerReleased:
    """A worker has begun to drain what the generation removed."""

    worker: int


@record
class WorkerLost:
    """A worker's process or its connection is gone."""

    worker: int


@record
class DeadlinePassed:
    """The deadline that the last `SetDeadline` set has passed."""


@record
class Cancelled:
    """The daemon is ending: do not pass the commit point any more."""


Event: TypeAlias = (
    Started
    | CommitRecorded
    | RecordFailed
    | StreamFailed
    | WorkerPrepared
    | WorkerRefused
    | WorkerCommitted
    | WorkerAborted
    | WorkerReleased
    | WorkerLost
    | DeadlinePassed
    | Cancelled
)

# Commands: what to do.


@record
class RecordCommit:
    """Make the commit record durable; answer with `CommitRecorded` or `RecordFailed`."""


@record
class RecordDone:
    """Note that nothing is left to do; may be lost, redoing is harmless."""


@record
class SendPrepare:
    """Ask one worker to prepare."""

    worker: int


@record
class SendCommit:
    """Tell one worker to commit."""

    worker: int


@record
class SendAbort:
    """Tell one worker to drop what it has prepared."""

    worker: int


@record
class SendRelease:
    """Tell one worker that all have committed."""

    worker: int


@record
class ReplaceWorker:
    """End a worker that is silent or holds something else; a successor starts in its place."""

    worker: int
    reason: str


@record
class SetDeadline:
    """(Re)arm the one timer for the phase that begins."""

    phase: Phase


Command: TypeAlias = (
    RecordCommit
    | RecordDone
    | SendPrepare
    | SendCommit
    | SendAbort
    | SendRelease
    | ReplaceWorker
    | SetDeadline
)


@record
class Failure:
    """Why an attempt was aborted. A transient one says nothing about the commit itself."""

    reason: str
    transient: bool
    stage: str = "prepare"
    kind: str = ""
    name: str = ""
    costly: bool = False
    """Whether the attempt may have cost a worker, and the next one may."""
    by: str = ""
    """Who stands in the way, where that was found out: another try may not find it out."""

    @property
    def told(self) -> str:
        """The reason, with who stands in the way."""
        return f"{self.reason} by {self.by}" if self.by else self.reason

    @property
    def by_workers(self) -> bool:
        """Whether it lies with workers, and not with the disk or an address."""
        return self.stage == "prepare" and not self.kind
