"""Messages between the reconciler and a worker.

Each is one frame (`schemas.messages.frames`), and `schemas.messages.channel` moves it over the
socket with the file descriptors that accompany it. Both sides validate every message. All messages
are idempotent: repeating one changes nothing, so that either side may be restarted at any point and
simply ask again.

`transaction` numbers an attempt within an epoch and comes back in the reply, so that a late reply
to an aborted attempt is never taken for one to the next. Inputs of a worker are imperatives, its
replies past participles.

The greeting (`Hello`, `Welcome`) is what every version understands of every other: its fields may
become more, but none of those that `_OtherHello` and `_OtherWelcome` have may go or mean something
else. Whoever learns from it that the other side speaks another `PROTOCOL` says nothing more.
"""

import contextlib
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from schemas.messages.frames import WireError, framed

PROTOCOL = 47
"""Grows with every change of these messages that the other side would not understand."""

LANGUAGE = "b8d8c7f0c76e23ea"
"""What the language of this version is called: `language` of `schemas.describing.jsonschema`.

Written down, since it takes a tenth of a start to find; a test holds both together.
"""


class _Message(BaseModel):
    # Read and written through the two unions below, which are built instead.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


_Number = Annotated[int, Field(ge=0)]
_Digest = Annotated[str, Field(pattern=r"\A[0-9a-f]{32}\z")]
_Content = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class Hello(_Message):
    """First message on a connection: who speaks. Answered by `Welcome` or `Stale`."""

    type: Literal["hello"] = "hello"
    epoch: _Number
    protocol: _Number = PROTOCOL


class Stage(_Message):
    """A chunk of a change: stage it aside. Number 0 begins, whatever was on its way or staged.

    `ops` is the canonical JSON text that the engine takes. The contents of files that its entities
    name lie in `material_dir`, each under its SHA-256; who names one of `lost` that does not is
    taken all the same, and takes no requests. Answered by `Staged` or `Refused`.
    """

    type: Literal["stage"] = "stage"
    transaction: _Number
    generation: _Number
    number: _Number
    ops: str
    material_dir: str
    materials: list[_Content]
    lost: list[_Content] = []


class Prepare(_Message):
    """Check a generation, whose change came in so many chunks, and be ready to commit it.

    `sockets` names the listeners of the accompanying descriptors; a worker that does not serve yet
    gets none. Answered by `Prepared` or `Refused`.
    """

    type: Literal["prepare"] = "prepare"
    transaction: _Number
    generation: _Number
    base_generation: _Number
    base_digest: _Digest
    commit: str
    chunks: _Number
    sockets: list[str]


class Commit(_Message):
    """Swap the staged generation in, in one turn. Cannot fail. Answered by `Committed`."""

    type: Literal["commit"] = "commit"
    transaction: _Number
    generation: _Number


class Abort(_Message):
    """Drop what is staged. Answered by `Aborted`."""

    type: Literal["abort"] = "abort"
    transaction: _Number
    generation: _Number


class Release(_Message):
    """Every worker has committed: drain what the generation removed. Answered by `Released`."""

    type: Literal["release"] = "release"
    transaction: _Number
    generation: _Number


class Serve(_Message):
    """Take connections from now on, at every listener; `sockets` as in `Prepare`.

    Until then a worker may hold what no other one does. Answered by `Served` or `Refused`.
    """

    type: Literal["serve"] = "serve"
    sockets: list[str]


class Overlay(_Message):
    """The backends that get no new requests; replaces the former list. Answered by `Overlaid`.

    `ends`: when they do again without another word, in seconds since 1970; the others never.
    `kept` is what the reconciler keeps of it, which the worker does not read: None leaves it.
    """

    type: Literal["overlay"] = "overlay"
    drained: list[str]
    ends: dict[str, float] = {}
    kept: str | None = None


class TicketKeys(_Message):
    """Where the keys of TLS session tickets are, newest first. Answered by `TicketKeysTaken`."""

    type: Literal["ticket_keys"] = "ticket_keys"
    path: str


class RateTable(_Message):
    """Where all workers of the host count rates: the descriptor of a file that comes with it.

    It was opened for this worker alone, whose locks hold for it. Answered by `RateTableTaken`.
    """

    type: Literal["rate_table"] = "rate_table"


class HealthTable(_Message):
    """Where the prober writes what it finds: the descriptor of a file that comes with it.

    Answered by `HealthTableTaken`.
    """

    type: Literal["health_table"] = "health_table"


class Challenges(_Message):
    """Where the answers to ACME challenges are, all of them. Answered by `ChallengesTaken`."""

    type: Literal["challenges"] = "challenges"
    path: str


class Audit(_Message):
    """Asks what the worker really holds: its digest is computed anew.

    Answered by `Audited`, or by `AuditEnded` when something else was asked meanwhile, which does
    not wait for it unless `to_the_end`. The next one goes on from there, whatever was committed.
    """

    type: Literal["audit"] = "audit"
    to_the_end: bool = False


class Recite(_Message):
    """Asks for the entities that are held, a bounded part from `position` on; the first is at 0.

    Changes nothing. Answered by `Recited`.
    """

    type: Literal["recite"] = "recite"
    position: _Number


class Recall(_Message):
    """Asks for what was `kept` of the last overlay. Answered by `Recalled`."""

    type: Literal["recall"] = "recall"


class Limits(_Message):
    """Asks who is limited now, by one limit or as one of those; None: whatever, and all.

    With `forgive` they have used nothing from then on. Answered by `Limited`.
    """

    type: Literal["limits"] = "limits"
    limit: str | None = None
    who: str | None = None
    forgive: bool = False


class Shutdown(_Message):
    """End: stop accepting, let requests end for at most `drain_ms`. Answered by `Leaving`."""

    type: Literal["shutdown"] = "shutdown"
    drain_ms: _Number


class Welcome(_Message):
    """What this worker is and holds; with the descriptors of its counters and of its listeners.

    Descriptors: the counters' memfd first, then one per name in `listeners`. It takes connections
    when it is `serving`. `rate_table` is the `files.identity` of the table in which it counts,
    `health_table` that of the one in which it reads who is healthy.
    `without` are contents that were lost when it was given what names them.
    """

    type: Literal["welcome"] = "welcome"
    worker: _Number
    pid: _Number
    cpu: int
    generation: _Number
    commit: str
    digest: _Digest
    staged: int | None
    listeners: list[str]
    serving: bool
    rate_table: str | None = None
    health_table: str | None = None
    without: list[_Content] = []
    protocol: _Number = PROTOCOL


class Stale(_Message):
    """A reconciler of a higher epoch speaks to this worker; the sender has been replaced."""

    type: Literal["stale"] = "stale"
    epoch: _Number


class Staged(_Message):
    """The chunk has been checked by itself and kept; the next one may come."""

    type: Literal["staged"] = "staged"
    transaction: _Number
    generation: _Number
    number: _Number


class Prepared(_Message):
    """Ready; `digest` is what the worker will hold after `Commit`."""

    type: Literal["prepared"] = "prepared"
    transaction: _Number
    generation: _Number
    digest: _Digest


class Refused(_Message):
    """Not staged: the entity that is to blame and why. `kind` and `name` may be empty."""

    type: Literal["refused"] = "refused"
    transaction: _Number
    generation: _Number
    kind: str
    name: str
    reason: str


class Committed(_Message):
    """Serving the generation, whose digest was computed by the worker."""

    type: Literal["committed"] = "committed"
    transaction: _Number
    generation: _Number
    digest: _Digest


class Aborted(_Message):
    """Nothing is staged any more."""

    type: Literal["aborted"] = "aborted"
    transaction: _Number
    generation: _Number


class Released(_Message):
    """The drain of what was removed has begun."""

    type: Literal["released"] = "released"
    transaction: _Number
    generation: _Number


class Served(_Message):
    """Connections are accepted."""

    type: Literal["served"] = "served"


class Overlaid(_Message):
    """The list of drained backends is in force."""

    type: Literal["overlaid"] = "overlaid"
    drained: list[str]


class TicketKeysTaken(_Message):
    """The keys are in use; `problem` says why they are not, and those of before are."""

    type: Literal["ticket_keys_taken"] = "ticket_keys_taken"
    problem: str | None = None


class RateTableTaken(_Message):
    """Rates are counted there; `problem` says why they are not, but where they were before."""

    type: Literal["rate_table_taken"] = "rate_table_taken"
    problem: str | None = None


class HealthTableTaken(_Message):
    """It is read there from now on; or why not: nobody counts as checked then."""

    type: Literal["health_table_taken"] = "health_table_taken"
    problem: str | None = None


class ChallengesTaken(_Message):
    """The answers are given; `problem` says why they are not, and those of before are."""

    type: Literal["challenges_taken"] = "challenges_taken"
    problem: str | None = None


class Audited(_Message):
    """The digest of everything that is held, and entities that are not what was committed."""

    type: Literal["audited"] = "audited"
    generation: _Number
    digest: _Digest
    differing: list[str]


class AuditEnded(_Message):
    """Something else was asked before the audit was through."""

    type: Literal["audit_ended"] = "audit_ended"


class Recited(_Message):
    """A part of what is held; the next one is at `next`, but behind the last.

    `entities` is a JSON array of `{kind, name, value}`; all parts together have the `digest`.
    """

    type: Literal["recited"] = "recited"
    generation: _Number
    digest: _Digest
    entities: str
    next: _Number
    last: bool


class Recalled(_Message):
    """What the reconciler has kept of the last overlay; empty when there was none."""

    type: Literal["recalled"] = "recalled"
    kept: str


class LimitedRow(_Message):
    """One who is limited: by what, for how long yet, and how many of his requests were refused."""

    limit: str
    who: str
    wait_ms: _Number
    refused: _Number


class InFlightRow(_Message):
    """One who has requests in flight that are counted: by what, and how many."""

    limit: str
    who: str
    requests: _Number


class Limited(_Message):
    """Those who were limited when it was asked, or had requests in flight: bounded numbers."""

    type: Literal["limited"] = "limited"
    limited: list[LimitedRow]
    in_flight: list[InFlightRow]


class Leaving(_Message):
    """The worker drains and ends: a successor may take its place at once."""

    type: Literal["leaving"] = "leaving"


class Working(_Message):
    """The answer to what was asked takes its time. Said every second, for a few minutes at most."""

    type: Literal["working"] = "working"


class Failed(_Message):
    """The worker could not do what a message asked for and did not expect it. It ends itself."""

    type: Literal["failed"] = "failed"
    reason: str


ToWorker = (
    Hello
    | Stage
    | Prepare
    | Commit
    | Abort
    | Release
    | Serve
    | Overlay
    | TicketKeys
    | RateTable
    | HealthTable
    | Challenges
    | Audit
    | Recite
    | Recall
    | Limits
    | Shutdown
)
FromWorker = (
    Welcome
    | Stale
    | Staged
    | Prepared
    | Refused
    | Committed
    | Aborted
    | Released
    | Served
    | Overlaid
    | TicketKeysTaken
    | RateTableTaken
    | HealthTableTaken
    | ChallengesTaken
    | Audited
    | AuditEnded
    | Recited
    | Recalled
    | Limited
    | Leaving
    | Working
    | Failed
)

_TO_WORKER: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Field(discriminator="type")])
_FROM_WORKER: TypeAdapter[FromWorker] = TypeAdapter(
    Annotated[FromWorker, Field(discriminator="type")]
)
_ADAPTERS: dict[type[_Message], TypeAdapter[Any]] = {
    **dict.fromkeys(get_args(ToWorker), _TO_WORKER),
    **dict.fromkeys(get_args(FromWorker), _FROM_WORKER),
}


class _Other(BaseModel):
    """What holds in the greeting of every version, whatever else it has."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", defer_build=True)

    protocol: _Number


class _OtherHello(_Other):
    type: Literal["hello"]
    epoch: _Number


class _OtherWelcome(_Other):
    type: Literal["welcome"]
    worker: _Number
    pid: _Number
    listeners: list[str]


def encode(message: ToWorker | FromWorker) -> bytes:
    """One frame. Raises `WireError` if it is larger than a frame may be."""
    return framed(_ADAPTERS[type(message)].dump_json(message), message.type)


def decode_to_worker(body: bytes) -> ToWorker:
    """A frame's body as the worker reads it."""
    try:
        return _TO_WORKER.validate_json(body)
    except ValidationError as error:
        with contextlib.suppress(ValidationError):
            other = _OtherHello.model_validate_json(body)
            if other.protocol != PROTOCOL:
                return Hello(epoch=other.epoch, protocol=other.protocol)
        raise WireError(_summary(error)) from error


def decode_from_worker(body: bytes) -> FromWorker:
    """A frame's body as the reconciler reads it."""
    try:
        return _FROM_WORKER.validate_json(body)
    except ValidationError as error:
        with contextlib.suppress(ValidationError):
            other = _OtherWelcome.model_validate_json(body)
            if other.protocol != PROTOCOL:
                return _welcome_of(other)
        raise WireError(_summary(error)) from error


def _welcome_of(other: _OtherWelcome) -> Welcome:
    """What such a worker holds, it cannot say in a way that we would understand."""
    return Welcome(
        worker=other.worker,
        pid=other.pid,
        cpu=-1,
        generation=0,
        commit="",
        digest="0" * 32,
        staged=None,
        listeners=other.listeners,
        serving=True,
        protocol=other.protocol,
    )


def _summary(error: ValidationError) -> str:
    """One line: a peer's mistake is logged, and its input may be large."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"malformed message: {where}: {first['msg']}" if where else first["msg"]
