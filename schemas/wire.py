"""Messages between the reconciler and a worker, and their frames.

A frame is a big-endian u32 length and that many bytes of JSON; `FrameDecoder` takes them apart
sans-I/O, `schemas.channel` moves them over the socket with the file descriptors that accompany
them. Both sides validate every message. All messages are idempotent: repeating one changes nothing,
so that either side may be restarted at any point and simply ask again.

`transaction` numbers an attempt within an epoch and comes back in the reply, so that a late reply
to an aborted attempt is never taken for one to the next. Inputs of a worker are imperatives, its
replies past participles.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

# 100,000 entities make a prepare of about 40 MiB.
FRAME_BYTES_MAX = 64 * 1024 * 1024
LENGTH_BYTES = 4
# The kernel's SCM_MAX_FD is 253 descriptors a message; a frame with more is refused on both sides.
DESCRIPTORS_MAX = 253
# A welcome carries the counters' memfd and one descriptor per listener.
LISTENERS_MAX = DESCRIPTORS_MAX - 1


class WireError(Exception):
    """The peer broke the protocol; the connection is of no use any more."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


_Number = Annotated[int, Field(ge=0)]
_Digest = Annotated[str, Field(pattern=r"\A[0-9a-f]{32}\z")]


class Hello(_Message):
    """First message on a connection: who speaks. Answered by `Welcome` or `Stale`."""

    type: Literal["hello"] = "hello"
    epoch: _Number


class Prepare(_Message):
    """Stage a generation aside. `sockets` names the listeners of the accompanying descriptors.

    `ops` is the canonical JSON text that the engine takes. The contents of files that entities name
    lie in `material_dir`, each under its SHA-256. Answered by `Prepared` or `Refused`.
    """

    type: Literal["prepare"] = "prepare"
    transaction: _Number
    generation: _Number
    base_generation: _Number
    base_digest: _Digest
    commit: str
    ops: str
    sockets: list[str]
    material_dir: str
    materials: list[Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]]


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


class Overlay(_Message):
    """The backends that get no new requests; replaces the former list. Answered by `Overlaid`."""

    type: Literal["overlay"] = "overlay"
    drained: list[str]


class TicketKeys(_Message):
    """Where the keys of TLS session tickets are, newest first. Answered by `TicketKeysTaken`."""

    type: Literal["ticket_keys"] = "ticket_keys"
    path: str


class Challenges(_Message):
    """Where the answers to ACME challenges are, all of them. Answered by `ChallengesTaken`."""

    type: Literal["challenges"] = "challenges"
    path: str


class Audit(_Message):
    """Asks what the worker really holds: its digest is computed anew. Answered by `Audited`."""

    type: Literal["audit"] = "audit"


class Recite(_Message):
    """Asks for the entities that are held, a bounded part from `position` on; the first is at 0.

    Changes nothing. Answered by `Recited`.
    """

    type: Literal["recite"] = "recite"
    position: _Number


class Shutdown(_Message):
    """End: stop accepting, let requests end for at most `drain_ms`. Answered by `Leaving`."""

    type: Literal["shutdown"] = "shutdown"
    drain_ms: _Number


class Welcome(_Message):
    """What this worker is and holds; with the descriptors of its counters and of its listeners.

    Descriptors: the counters' memfd first, then one per name in `listeners`.
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


class Stale(_Message):
    """A reconciler of a higher epoch speaks to this worker; the sender has been replaced."""

    type: Literal["stale"] = "stale"
    epoch: _Number


class Prepared(_Message):
    """Staged; `digest` is what the worker will hold after `Commit`."""

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


class Overlaid(_Message):
    """The list of drained backends is in force."""

    type: Literal["overlaid"] = "overlaid"
    drained: list[str]


class TicketKeysTaken(_Message):
    """The keys are in use; `problem` says why they are not, and those of before are."""

    type: Literal["ticket_keys_taken"] = "ticket_keys_taken"
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


class Leaving(_Message):
    """The worker drains and ends: a successor may take its place at once."""

    type: Literal["leaving"] = "leaving"


class Failed(_Message):
    """The worker could not do what a message asked for and did not expect it. It ends itself."""

    type: Literal["failed"] = "failed"
    reason: str


ToWorker = (
    Hello
    | Prepare
    | Commit
    | Abort
    | Release
    | Overlay
    | TicketKeys
    | Challenges
    | Audit
    | Recite
    | Shutdown
)
FromWorker = (
    Welcome
    | Stale
    | Prepared
    | Refused
    | Committed
    | Aborted
    | Released
    | Overlaid
    | TicketKeysTaken
    | ChallengesTaken
    | Audited
    | Recited
    | Leaving
    | Failed
)

_TO_WORKER: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Field(discriminator="type")])
_FROM_WORKER: TypeAdapter[FromWorker] = TypeAdapter(
    Annotated[FromWorker, Field(discriminator="type")]
)


def encode(message: ToWorker | FromWorker) -> bytes:
    """One frame. Raises `WireError` if it is larger than a frame may be."""
    body = message.model_dump_json().encode()
    if len(body) > FRAME_BYTES_MAX:
        raise WireError(f"a {message.type} message of {len(body)} bytes exceeds a frame")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_to_worker(body: bytes) -> ToWorker:
    """A frame's body as the worker reads it."""
    try:
        return _TO_WORKER.validate_json(body)
    except ValidationError as error:
        raise WireError(_summary(error)) from error


def decode_from_worker(body: bytes) -> FromWorker:
    """A frame's body as the reconciler reads it."""
    try:
        return _FROM_WORKER.validate_json(body)
    except ValidationError as error:
        raise WireError(_summary(error)) from error


class FrameDecoder:
    """Bytes in, bodies out. Never holds more than one frame and the bytes just fed."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes. Raises `WireError` on a length over the limit."""
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= LENGTH_BYTES:
            body_start = start + LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body_start], "big")
            if length > FRAME_BYTES_MAX:
                raise WireError(f"a frame of {length} bytes exceeds {FRAME_BYTES_MAX}")
            if len(self._buffer) < body_start + length:
                break
            start = body_start + length
            bodies.append(bytes(self._buffer[body_start:start]))
        if start:
            del self._buffer[:start]
        return bodies


def _summary(error: ValidationError) -> str:
    """One line: a peer's mistake is logged, and its input may be large."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"malformed message: {where}: {first['msg']}" if where else first["msg"]
