"""Messages between the reconciler and the prober, which asks backends whether they are well.

Frames and channel are those of workers (`schemas.messages.wire`), and so is the greeting's rule:
whoever speaks another `PROTOCOL` says nothing more. Replies come in the order of the questions;
`Turned` comes by itself. Who is checked is told as a difference, or as a whole list in parts, of
which the first `begins` and the last `ends`. `moment` names the state that is told with that, and
is empty while a part is missing: a prober that still has it needs to be told nothing.
"""

import contextlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from schemas.messages.frames import WireError, framed

PROTOCOL = 1
"""Grows with every change of these messages, and of what the engine reads in them."""


class _ProberMessage(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


_Number = Annotated[int, Field(ge=0)]


class Greeting(_ProberMessage):
    """First message: who speaks. Answered by `Greeted`."""

    type: Literal["hello"] = "hello"
    epoch: _Number
    protocol: _Number = PROTOCOL


class Table(_ProberMessage):
    """Where what is found is written: the descriptor of a file. Answered by `TableTaken`."""

    type: Literal["table"] = "table"


class Check(_ProberMessage):
    """Who is checked from now on, and who is no more. Answered by `Checking`.

    `puts` is JSON as the engine takes it. The contents of files that it names lie in
    `material_dir`, each under its SHA-256.
    """

    type: Literal["check"] = "check"
    begins: bool = False
    ends: bool = False
    moment: str = ""
    puts: str
    removes: list[str]
    material_dir: str
    materials: list[str]


class Report(_ProberMessage):
    """Asks what is known of these, or of all who get no requests. Answered by `Reported`."""

    type: Literal["report"] = "report"
    names: list[str] | None = None


class End(_ProberMessage):
    """End. Not answered."""

    type: Literal["shutdown"] = "shutdown"


class Greeted(_ProberMessage):
    """Who answers, what its last whole list was made of, and the `files.identity` of its table."""

    type: Literal["welcome"] = "welcome"
    pid: _Number
    moment: str
    table: str | None
    protocol: _Number = PROTOCOL


class TableTaken(_ProberMessage):
    """Written there from now on, or why not."""

    type: Literal["table_taken"] = "table_taken"
    problem: str | None = None


class Checking(_ProberMessage):
    """They are. `refused` are those that cannot be, and why."""

    type: Literal["checking"] = "checking"
    refused: list[tuple[str, str]] = []


class HealthRow(_ProberMessage):
    """What is known of one backend; times are before now."""

    name: str
    health: Literal["healthy", "unhealthy", "unchecked"]
    is_usable: bool
    for_ms: _Number
    good: _Number
    bad: _Number
    last_ms: _Number | None
    took_us: _Number | None
    fault: str | None


BUCKETS_US = (1_000, 5_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000)
"""The bounds of the buckets of `Sums`, but for the last; as the engine has them."""


class Sums(_ProberMessage):
    """All checks of a prober; `buckets` as `probing/news` of the engine has them."""

    good: _Number = 0
    bad: _Number = 0
    took_us: _Number = 0
    buckets: list[_Number] = []


class Reported(_ProberMessage):
    """Rows, so many as one answer may have, and how many backends are checked and not usable."""

    type: Literal["reported"] = "reported"
    rows: list[HealthRow]
    checked: _Number
    unusable: _Number
    under_way: _Number
    sums: Sums


class Turn(_ProberMessage):
    """A backend is another thing now, and what was wrong with its last check."""

    name: str
    is_healthy: bool
    reason: str
    took_us: _Number


class Turned(_ProberMessage):
    """By itself: what has turned; `lost` more have, since nobody heard."""

    type: Literal["turned"] = "turned"
    turns: list[Turn]
    lost: _Number = 0


class Outranked(_ProberMessage):
    """Somebody of a higher epoch speaks to it; the connection ends."""

    type: Literal["stale"] = "stale"


ToProber = Greeting | Table | Check | Report | End
FromProber = Greeted | TableTaken | Checking | Reported | Turned | Outranked

_to_prober: TypeAdapter[ToProber] = TypeAdapter(Annotated[ToProber, Field(discriminator="type")])
_from_prober: TypeAdapter[FromProber] = TypeAdapter(
    Annotated[FromProber, Field(discriminator="type")]
)


class _OtherGreeting(BaseModel):
    """A greeting of another version."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["hello", "welcome"]
    protocol: int
    pid: int = 0
    epoch: int = 0


def encode(message: ToProber | FromProber) -> bytes:
    """A message as one frame."""
    return framed(message.model_dump_json().encode(), message.type)


def decode_to_prober(body: bytes) -> ToProber:
    """A frame's body as a message. Raises `WireError`."""
    try:
        return _to_prober.validate_json(body)
    except ValidationError as error:
        other = _other(body, error)
        return Greeting(epoch=other.epoch, protocol=other.protocol)


def decode_from_prober(body: bytes) -> FromProber:
    """A frame's body as a message. Raises `WireError`."""
    try:
        return _from_prober.validate_json(body)
    except ValidationError as error:
        other = _other(body, error)
        return Greeted(pid=other.pid, moment="", table=None, protocol=other.protocol)


def _other(body: bytes, error: ValidationError) -> _OtherGreeting:
    with contextlib.suppress(ValidationError):
        other = _OtherGreeting.model_validate_json(body)
        if other.protocol != PROTOCOL:
            return other
    reason = error.errors()[0]["msg"]
    raise WireError(f"a message of the prober is malformed: {reason}") from None
