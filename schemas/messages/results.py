"""What the daemon answers to the requests of `schemas.messages.control`, without its frame.

Made by `reconciler.reporting.control`, read by the command line, and printed there by `--json`.
Plain `TypedDict`s, for the same reason as the requests.
"""

from typing import Any, Literal, NotRequired, TypedDict


class PlanResult(TypedDict):
    """The answer to `plan`.

    `plan` is the form of `kakehi plan --json`, and null when the configuration is invalid;
    `diagnostics` are `Diagnostic.to_json()` forms with their rendered text in `rendered`.
    Where `wants` names files, there is no plan before their contents have come.
    """

    plan: dict[str, Any] | None
    diagnostics: list[dict[str, Any]]
    base: dict[str, Any]
    wants: list[str]


class WaitResult(TypedDict):
    """The answer to `wait`. `outcome`: applied | refused | superseded | timeout.

    `tried_again`: the newest commit has failed for no fault of its own, or the remote cannot be
    fetched from, or nobody can connect to any listener: it may still be applied. `message` tells of
    listeners that take no connections beside others that do.
    """

    outcome: Literal["applied", "refused", "superseded", "timeout"]
    commit: str
    applied: str | None
    generation: int
    message: str
    laggards: list[str]
    tried_again: bool


class HistoryEntry(TypedDict):
    """One commit. `outcome`: applied | unchanged | refused | superseded.

    Also not_renewed: `files` of the machine that the commit which runs names have changed, and do
    not fit. Entries of drains are told as `DrainEvent`.
    `changes` holds at most 1,000 changes in the form of `plan --json`; `change_count` counts all.
    `position` counts what is told, with drains, from the newest on, whatever the clock said.
    """

    position: NotRequired[int]
    at: str
    commit: str
    outcome: Literal[
        "applied",
        "unchanged",
        "refused",
        "superseded",
        "drained",
        "undrained",
        "expired",
        "not_renewed",
    ]
    generation: int
    duration_ms: float
    author: str
    subject: str
    message: NotRequired[str]
    stage: NotRequired[str]
    file: NotRequired[str | None]
    line: NotRequired[int | None]
    backends: NotRequired[list[str]]
    expires_at: NotRequired[str | None]
    drained_by: NotRequired[str]
    files: NotRequired[list[str]]
    change_count: int
    changes: list[dict[str, Any]]


class DrainEvent(TypedDict):
    """What became of drains while a commit ran. `outcome`: drained | undrained | expired.

    `owner` is who has done it, or whose drain has expired; `drained_by` whose an undrained one was.
    """

    position: int
    at: str
    outcome: str
    backends: list[str]
    owner: str
    drained_by: NotRequired[str]
    expires_at: str | None
    commit: str


class HistoryResult(TypedDict):
    """The answer to `history`. `drains` are those since the oldest of the entries.

    `commit` is the one that runs, of which nothing may be known where the history was lost.
    """

    commit: str | None
    entries: list[HistoryEntry]
    drains: list[DrainEvent]


class WrittenAt(TypedDict):
    """Where an entity is written; the default settings have the file "" and the line 0."""

    file: str
    line: int
    column: NotRequired[int]


class ShownEntity(TypedDict):
    """One running entity; `value` is canonical, and `units` says of which numbers in it (dotted
    path) they are durations (`ms`) or sizes (`bytes`).
    """

    kind: str
    name: str
    value: dict[str, Any]
    units: dict[str, str]
    source: WrittenAt | None


class ShowResult(TypedDict):
    """The answer to `show`."""

    generation: int
    commit: str | None
    entities: list[ShownEntity]


class NamesResult(TypedDict):
    """The answer to `names`: the first of them, in order."""

    names: list[str]


class ExplainResult(TypedDict):
    """The answer to `explain`.

    `listeners`: name, address, protocol, source, of each that the URL can arrive at; over https
    also `certificates` (name, source; none: the handshake is refused) and why these in
    `handshake`. `frontend`, `cluster`: name, source, or null. `backends`: name, address, weight,
    backup, drained, source, `tls_fault`: why handshakes with it fail, `unreached`: why nobody
    can connect to it as its Unix socket is there, and `health`: what checks say, each or null.
    `stages`: what the frontend does to the request and to its answer, in this order, each with
    key, words, `source`: where that is written, or null, and `by`: name and source of the policy
    that says so, null where the frontend does itself (or its listener, of limits); one of several
    rate limits also has its `name`. `lost`: frontends that did not win, best first, each with
    name, source and reason. `status`: the status that the proxy itself would answer with (0: it
    closes the connection), or null when a backend answers.
    """

    listeners: list[dict[str, Any]]
    frontend: dict[str, Any] | None
    stages: list[dict[str, Any]]
    cluster: dict[str, Any] | None
    backends: list[dict[str, Any]]
    lost: list[dict[str, Any]]
    status: int | None
    message: str


class DrainOwner(TypedDict):
    """Whose a drain was before, until when (null: until undrained)."""

    backend: str
    owner: str
    since: str
    expires_at: str | None


class Unheard(TypedDict):
    """A worker that serves and does not hear of what is asked or said of all, and why."""

    worker: int
    pid: int
    reason: str


class EndedDrain(TypedDict):
    """A drain that ended before it was told of: undrained meanwhile, or its time was over."""

    backend: str
    how: Literal["undrained", "expired"]


class DrainResult(TypedDict):
    """The answer to `drain` and `undrain`. `active`: requests still in flight, all workers.

    `backends` are those that are meant, several where an address was named; `others` the drains of
    another owner that were there before; `without_backend` the clusters that have no backend left
    that takes requests, `unnoticed` those of them from which no client has its answers: they have
    no share, or are only mirrored to; `left_unhealthy` those whose other backends are not healthy,
    every one, by their checks; `served_by` who serves the requests of others; `unheard` are
    the workers that do not hear of it and go on as before; `ended` the drains that were over before
    this answer; `drained`: all are drained; `not_kept` is why the next start will not know of it,
    null: it will.
    """

    backend: str
    backends: list[str]
    others: list[DrainOwner]
    without_backend: list[str]
    unnoticed: list[str]
    served_by: NotRequired[dict[str, str]]
    left_unhealthy: list[str]
    unheard: list[Unheard]
    ended: list[EndedDrain]
    drained: bool
    active: int
    expires_at: str | None
    timed_out: bool
    not_kept: str | None


class LimitedClient(TypedDict):
    """One whom a rate limit refuses now: `limit` is KIND/NAME/LIMIT, as in the access log.

    `who` is an address, a network of IPv6, a frontend, or, of a header or a cookie, a hash of the
    value by a key of the host (`none`: it was not there). `refused`: so many of its requests were
    since it was within the rate last.
    """

    limit: str
    who: str
    wait_ms: int
    refused: int


class CrowdInFlight(TypedDict):
    """One of whose requests so many are in flight, of as many as `most` by this `concurrency`.

    `limit` and `who` as above.
    """

    limit: str
    who: str
    requests: int
    most: int


class PolicyCounts(TypedDict):
    """What a policy has done to requests, by the workers that serve: since each of them began."""

    policy: str
    rate_limited: int
    crowded: int
    """Refused by its `concurrency`."""
    dry_run: int
    """Let through by one of its limits that is only tried."""


class LimitsResult(TypedDict):
    """The answer to `limits`: those who have to wait longest first, and how many `more` there are.

    `in_flight`: who has how many of the requests at a time that `concurrency` lets him have, those
    first who have the largest part. `policies`: what those have counted that have counted
    something. `forgiven`: who was limited may ask again. `unanswered`:
    workers that said nothing in time; `unheard`: these, and all others that serve and are not in
    it.
    """

    limited: list[LimitedClient]
    more: int
    in_flight: list[CrowdInFlight]
    more_in_flight: int
    policies: list[PolicyCounts]
    forgiven: bool
    unanswered: list[int]
    unheard: list[Unheard]


class BackendFound(TypedDict):
    """One backend as it is now.

    `health`: healthy | unhealthy | unchecked (no check has come to a result) | null (not checked),
    for so many seconds. `fault`: what was wrong with its last check, which was so many seconds ago
    and took so many; `checks`: how many were good and bad.
    """

    name: str
    address: str
    weight: int
    backup: bool
    drained: bool
    health: str | None
    usable: bool
    for_s: float | None
    fault: str | None
    last_s: float | None
    took_s: float | None
    checks: list[int]


class BackendsResult(TypedDict):
    """The answer to `backends`: by name, and how many `more` there are; `problem`: why nobody is
    checked although something is to be."""

    backends: list[BackendFound]
    more: int
    problem: str | None


class RetryResult(TypedDict):
    """The answer to `retry`: what is tried. `commit` is null when all that is wanted runs."""

    commit: str | None
    applied: str | None
    certificates: list[str]
    """Those that could not be ordered, by name."""
    fetches: str | None
    """The remote that is fetched now, if the daemon follows one."""
