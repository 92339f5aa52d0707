"""Messages between the command line and the daemon over `control.sock`.

The command line (`reconciler.cli.asking`) writes one request as one line of JSON; the daemon
(`reconciler.reporting.control.control_socket`) answers with one line, in which is one of
`schemas.messages.results`. Plain dataclasses: the command line starts in under 100 ms, which
pydantic alone would use up.

A request is `{"request": NAME, …fields}`. A response is `{"ok": true, "result": {…}}` or
`{"ok": false, "error": {"code": CODE, "message": TEXT}}`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import field
from itertools import islice
from typing import Any, ClassVar, Literal

from schemas.record import record

SOCKET_NAME = "control.sock"
# A plan request carries the changed files of a working tree; 16 MiB holds about 100,000 entities.
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
# Ten years, and more entries than there can be: what clocks, timers and SQLite can hold.
SECONDS_MAX = 87_600 * 3_600
NUMBER_MAX = 1_000_000_000
HEIRS_OF_MAX = 200
"""Of so many changed frontends a plan tells who takes requests over; each is a question."""
# Entities of a listing that are encoded, and wait for their reader, at one time.
_LISTED_AT_ONCE = 500

ErrorCode = Literal["usage", "invalid", "not_found", "unavailable", "busy", "timeout", "internal"]
"""`busy`: nothing was done of it, and it may be asked again soon."""


class MalformedMessageError(ValueError):
    """The other side sent something that is not a message of this protocol."""


@record
class StatusRequest:
    """Answered by a `StatusResult`."""

    name: ClassVar[str] = "status"


@record
class PlanRequest:
    """What would change on the running proxy. Answered by a `PlanResult`.

    `commit` names a commit, branch or tag to compare the running state with. `files` are laid over
    it: path relative to the config directory → text, or null for a deleted file. With `commit`
    null the files are laid over the applied commit. Text that is not UTF-8 travels by Python's
    `surrogateescape`. `beside` are files that are no configuration and may be named by
    entities: the answer asks for those that are, and are not among `files`. With `explains` it asks
    as well for those that are named and nowhere: `unreadable` has why, and a hint if there is one.
    """

    name: ClassVar[str] = "plan"
    commit: str | None = None
    files: dict[str, str | None] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    explains: bool = False
    unreadable: dict[str, list[str]] = field(default_factory=dict)


@record
class WaitRequest:
    """Blocks until every worker runs `commit` or a descendant. Answered by a `WaitResult`."""

    name: ClassVar[str] = "wait"
    commit: str
    timeout_s: float = 30.0


@record
class HistoryRequest:
    """Newest entries first. Answered by a `HistoryResult`."""

    name: ClassVar[str] = "history"
    limit: int = 20


@record
class ShowRequest:
    """Running entities, of all kinds or of one. Answered by a `ShowResult`."""

    name: ClassVar[str] = "show"
    kind: str | None = None
    entity: str | None = None


@record
class NamesRequest:
    """Running names of a kind that begin by `under`, for shells. Answered by a `NamesResult`.

    The kind "url": what may be asked of frontends.
    """

    name: ClassVar[str] = "names"
    kind: str
    under: str = ""


@record
class ExplainRequest:
    """Which listener, frontend, cluster and backends would serve it. An `ExplainResult`."""

    name: ClassVar[str] = "explain"
    url: str
    method: str = "GET"
    headers: list[list[str]] = field(default_factory=list)
    client_address: str | None = None


@record
class DrainRequest:
    """No new requests for a backend until `ttl_s` has passed. Answered by a `DrainResult`.

    `backend` is CLUSTER/BACKEND, or an address (IP, or IP:port): all backends there.
    With `wait` the answer comes when the last request has ended, or after `timeout_s`.
    """

    name: ClassVar[str] = "drain"
    backend: str
    owner: str = ""
    ttl_s: float | None = None
    wait: bool = False
    timeout_s: float = 30.0


@record
class UndrainRequest:
    """Takes a drain back; `owner` is who does it. Answered by a `DrainResult`."""

    name: ClassVar[str] = "undrain"
    backend: str
    owner: str = ""


@record
class BackendsRequest:
    """What is known of backends: of all, or of a cluster's. Answered by a `BackendsResult`."""

    name: ClassVar[str] = "backends"
    cluster: str | None = None


@record
class LimitsRequest:
    """Who is limited now: by one limit, or as one of those. Answered by a `LimitsResult`.

    With `forgive` they have used nothing from then on: with neither, everybody.
    """

    name: ClassVar[str] = "limits"
    limit: str | None = None
    who: str | None = None
    forgive: bool = False


@record
class RetryRequest:
    """Looks for a new commit, and tries again what was refused. Answered by a `RetryResult`."""

    name: ClassVar[str] = "retry"


@record
class StopRequest:
    """Ends the workers (drained) and the daemon. Answered when the workers are gone."""

    name: ClassVar[str] = "stop"


Request = (
    StatusRequest
    | PlanRequest
    | WaitRequest
    | HistoryRequest
    | ShowRequest
    | NamesRequest
    | ExplainRequest
    | DrainRequest
    | UndrainRequest
    | BackendsRequest
    | LimitsRequest
    | RetryRequest
    | StopRequest
)

_REQUESTS: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (
        StatusRequest,
        PlanRequest,
        WaitRequest,
        HistoryRequest,
        ShowRequest,
        NamesRequest,
        ExplainRequest,
        DrainRequest,
        UndrainRequest,
        BackendsRequest,
        LimitsRequest,
        RetryRequest,
        StopRequest,
    )
}


def decode_request(line: bytes) -> Request:
    """Raises `MalformedMessageError` naming what is wrong."""
    body = _decode_object(line)
    name = body.pop("request", None)
    kind = _REQUESTS.get(name) if isinstance(name, str) else None
    if kind is None:
        expected = ", ".join(_REQUESTS)
        raise MalformedMessageError(f"unknown request {name!r}, expected one of: {expected}")
    fields = {each.name: each for each in dataclasses.fields(kind)}
    for key, value in body.items():
        if key not in fields:
            raise MalformedMessageError(f"request {name!r} has no field {key!r}")
        if not _has_type(value, str(fields[key].type)):
            raise MalformedMessageError(
                f"field {key!r} of request {name!r} is not {fields[key].type}"
            )
        if not _is_in_range(value):
            raise MalformedMessageError(f"field {key!r} of request {name!r} is out of range")
    try:
        request: Request = kind(**body)
    except TypeError as error:
        raise MalformedMessageError(f"request {name!r} lacks a field: {error}") from error
    return request


def encode_result(result: Any) -> bytes:
    """A successful response as one line."""
    return json.dumps({"ok": True, "result": result}, separators=(",", ":")).encode() + b"\n"


def encode_listing(result: Any, name: str, items: Iterable[Any]) -> Iterator[bytes]:
    """A successful response as one line, with a list in it that is never held whole: in parts."""
    head, _, end = encode_result({**result, name: []}).rpartition(b"]")
    yield head
    rest, between = iter(items), b""
    while some := list(islice(rest, _LISTED_AT_ONCE)):
        yield between + json.dumps(some, separators=(",", ":")).encode()[1:-1]
        between = b","
    yield b"]" + end


def encode_error(code: ErrorCode, message: str) -> bytes:
    """A failed response as one line."""
    body = {"ok": False, "error": {"code": code, "message": message}}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _decode_object(line: bytes) -> dict[str, Any]:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(f"not a line of JSON: {error}") from error
    if not isinstance(body, dict):
        raise MalformedMessageError("not a JSON object")
    return body


def _is_in_range(value: object) -> bool:
    """Floats are seconds, integers count; NaN is in no range."""
    if isinstance(value, float):
        return abs(value) <= SECONDS_MAX
    return not isinstance(value, int) or abs(value) <= NUMBER_MAX


def _has_type(value: object, declared: str) -> bool:
    """The few field types that requests use, checked by their written form."""
    match declared:
        case "str":
            return isinstance(value, str)
        case "str | None":
            return value is None or isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "float | None":
            return value is None or _has_type(value, "float")
        case "dict[str, str | None]":
            return isinstance(value, dict) and all(
                isinstance(key, str) and _has_type(each, "str | None")
                for key, each in value.items()
            )
        case "dict[str, list[str]]":
            return isinstance(value, dict) and all(
                1 <= len(each) <= 2 if _has_type(each, "list[str]") else False
                for each in value.values()
            )
        case "list[str]":
            return isinstance(value, list) and all(isinstance(each, str) for each in value)
        case "list[list[str]]":
            return isinstance(value, list) and all(
                isinstance(pair, list) and len(pair) == 2 and all(isinstance(s, str) for s in pair)
                for pair in value
            )
    return False
