"""What `status` tells: the answer of the daemon, part by part.

The longest of the answers (`schemas.messages.results`), and the one that every new part of the
daemon adds to. Made by `reconciler.reporting.control.status`.
"""

from typing import Any, Literal, TypedDict


class WorkerStatus(TypedDict):
    """One worker.

    `state`: running | starting | behind | silent (it does not answer) | former | standing by. A
    former one serves what the others do not, until its successor holds a commit. One that stands by
    takes no connections until then.
    """

    id: int
    pid: int
    cpu: int
    generation: int
    digest: str
    connections: int
    requests: int
    commit: str
    state: str
    restarts: int


class LastError(TypedDict):
    """The newest refused commit, while no newer one is applied.

    `stage`: validation | guard | prepare | journal | internal | files. With `files` the commit
    runs, and files of the machine that it names have changed and do not fit. `diagnostics` are all
    errors of an invalid configuration, as `plan` has them; `message` is the first and how many
    there are.
    """

    commit: str
    message: str
    stage: str
    file: str | None
    line: int | None
    column: int | None
    at: str
    diagnostics: list[dict[str, Any]]


class SourceStatus(TypedDict):
    """`state`: following | holding. `problem` says why the running state is held.

    `fetch_problem` says why the remote cannot be fetched from; what was fetched before is followed
    meanwhile. `fetched_at` is the last time that it could be, since the daemon's start.
    """

    state: str
    directory: str
    ref: str
    head: str | None
    problem: str | None
    remote: str | None
    fetched_at: str | None
    fetch_problem: str | None


class DrainStatus(TypedDict):
    """One drained backend. `expires_at` null = until undrained."""

    backend: str
    owner: str
    since: str
    expires_at: str | None
    active: int


class TransactionStatus(TypedDict):
    """A transaction under way. `waiting_for` are the ids of workers that have not answered."""

    commit: str
    generation: int
    phase: str
    waiting_for: list[int]


class CertificateStatus(TypedDict):
    """When a certificate in service expires; `kind` cluster: one that is shown to backends.

    `days_left` are whole days, below zero when it has expired. The first to expire comes first.
    """

    kind: str
    name: str
    not_after: str
    days_left: int


class DriftStatus(TypedDict):
    """The last worker that did not hold what was committed; it has been replaced since.

    `differing` are some of its entities, as KIND/NAME; none when others were there as a whole.
    """

    worker: int
    found_at: str
    generation: int
    differing: list[str]


class PartStatus(TypedDict):
    """A long-lived task of the daemon. `state`: running | restarting | silent.

    A silent one should have been heard of by now. `problem` says why it was started again.
    """

    name: str
    state: str
    restarts: int
    problem: str | None


class RetryStatus(TypedDict):
    """A commit that failed for another reason than its own, and is tried again by itself.

    `attempts` are those so far; `next_s` is how many seconds from now the next one begins.
    """

    commit: str
    reason: str
    attempts: int
    next_s: float


class LoadingStatus(TypedDict):
    """A commit that is being staged. `phase`: comparing | reading | checking | writing.

    One that is large has a process of its own, whose numbers these are; it began at `since`.
    `read` files of `files` are through; of them `parsed` had to be parsed, and the others were
    known from a load that was interrupted. For `idle_s` its processes have used no processor.
    """

    commit: str
    phase: Literal["comparing", "reading", "checking", "writing"]
    files: int
    read: int
    parsed: int
    idle_s: int
    since: str


class StatusResult(TypedDict):
    """The answer to `status`; what `kakehi status --json` prints."""

    commit: str | None
    generation: int
    digest: str
    workers: list[WorkerStatus]
    last_error: LastError | None
    epoch: int
    pid: int
    ref: str
    source: SourceStatus
    applied_at: str | None
    uptime_s: int
    entities: dict[str, int]
    drains: list[DrainStatus]
    loading: LoadingStatus | None
    transaction: TransactionStatus | None
    retry: RetryStatus | None
    certificates: list[CertificateStatus]
    drift: DriftStatus | None
    parts: list[PartStatus]
    warnings: list[str]
