"""What every command prints with `--json`, as types: the reference, and `kakehi schema COMMAND`.

Those that come from the daemon are in `schemas.messages.results` and `status` beside it; `plan` and
`validate` are here. A key that is here stays; new ones may come, so readers ignore what they do not
know.
"""

import textwrap
from types import UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from schemas.messages import results, status


class FieldSides(TypedDict("FieldSides", {"from": Any, "to": Any})):
    """A field's value on the running proxy and in the plan, as YAML writes it.

    `missing`: the side that has no such entry (from | to), which is not an entry that is null.
    """

    missing: NotRequired[str]


class ReportedUse(TypedDict):
    """What is open or in flight now, all workers; null where it is not known or not counted."""

    connections: int | None
    requests: int | None


class PlannedChange(TypedDict):
    """One entity. `action`: add | update | remove. `fields`: dotted path → both sides.

    `heirs`: the frontends that take over what a frontend served, null for 404; `takes_from`: those
    from which it takes; `untried`: which of these two may be others, too, as not all could be
    tried; `frontends`: those that a change of a cluster, of a policy, or of a listener's policies
    concerns, the first hundred, and `more_frontends`: how many more; `leaves_no_backend`: its
    cluster answers 503 from then on, but where `then` says who serves its requests;
    `leads_to_no_backend`: the clusters that do, to which requests come by it that did not before;
    `without_certificate`: hostnames that have a certificate now, and none until this one is issued;
    `without_keys`: URLs of keys that have not been fetched yet, without which its requests get 503;
    `unreached`: why nobody could connect to a backend's Unix socket as things are; `ends_drain`: a
    drained backend takes requests again, by another name; `drained`: it gets none; `renamed`: what
    has the same value and the other action.
    """

    action: str
    kind: str
    name: str
    fields: dict[str, FieldSides]
    source: results.WrittenAt
    effect: str
    in_use: ReportedUse
    heirs: NotRequired[list[str | None]]
    takes_from: NotRequired[list[str | None]]
    untried: NotRequired[list[str]]
    frontends: NotRequired[list[str]]
    more_frontends: NotRequired[int]
    leaves_no_backend: NotRequired[bool]
    then: NotRequired[str]
    leads_to_no_backend: NotRequired[list[str]]
    without_certificate: NotRequired[list[str]]
    without_keys: NotRequired[list[str]]
    unreached: NotRequired[str]
    ends_drain: NotRequired[bool]
    drained: NotRequired[bool]
    renamed: NotRequired[str]


class Uncommitted(TypedDict):
    """Files of the working tree that the commit has not, or has with another content."""

    edited: list[str]
    deleted: list[str]
    untracked: list[str]


class FoundDiagnostic(TypedDict):
    """One error or warning. `severity`: error | warning. Lines and columns count from 1."""

    severity: str
    file: str
    line: int
    column: int
    message: str
    hint: str | None
    source_line: str | None
    rendered: NotRequired[str]


class PlanRefusal(TypedDict):
    """Why the daemon would refuse a plan now. `stage`: guard | prepare | journal."""

    stage: str
    reason: str


class PlanReport(TypedDict):
    """`plan --json`. `commit` is null for a working tree. `errors` only when it is invalid.

    `only` is the kind or entity that was asked for, and `others` how many changes of others the
    plan has beside `changes`; absent where all was.
    `refusal` is null when nothing is known that would stand in the plan's way; `untried` is what
    was not looked at, without a daemon.
    """

    commit: str | None
    changes: list[PlannedChange]
    only: NotRequired[str]
    others: NotRequired[int]
    warnings: list[FoundDiagnostic]
    summary: NotRequired[dict[str, int]]
    refusal: NotRequired[PlanRefusal | None]
    uncommitted: NotRequired[Uncommitted]
    untried: NotRequired[list[str]]
    errors: NotRequired[list[FoundDiagnostic]]


class ValidateReport(TypedDict):
    """`validate --json`. `entities`: how many there are of each kind."""

    valid: bool
    entities: dict[str, int]
    diagnostics: list[FoundDiagnostic]


class CommandFailure(TypedDict):
    """What a command failed by. `exit_code`: that of the command, as `kakehi --help` has them."""

    exit_code: int
    message: str
    hint: str | None


class ErrorReport(TypedDict):
    """What every command prints with `--json` when it fails and has no result of its own."""

    error: CommandFailure


REPORTS: dict[str, type] = {
    "drain": results.DrainResult,
    "explain": results.ExplainResult,
    "forgive": results.LimitsResult,
    "history": results.HistoryResult,
    "plan": PlanReport,
    "retry": results.RetryResult,
    "show": results.ShowResult,
    "status": status.StatusResult,
    "undrain": results.DrainResult,
    "validate": ValidateReport,
    "wait": results.WaitResult,
}


SUBJECTS: dict[str, type] = {
    **REPORTS,
    "backends": results.BackendsResult,
    "error": ErrorReport,
    "limits": results.LimitsResult,
}
"""What `kakehi schema` knows beside the kinds."""


def report_schema(subject: str) -> dict[str, Any]:
    """Return the JSON Schema of what a command prints with `--json`, or of its failure."""
    found = _schema(SUBJECTS[subject])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


_SCALARS: dict[Any, dict[str, Any]] = {
    Any: {},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    int: {"type": "integer"},
    str: {"type": "string"},
    type(None): {"type": "null"},
}


def _schema(declared: Any) -> dict[str, Any]:
    """Return the schema of the few types that reports are made of.

    Pydantic would do it, but not for `typing.TypedDict` before Python 3.12.
    """
    if declared in _SCALARS:
        return _SCALARS[declared]
    if is_typeddict(declared):
        return _object(declared)
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is UnionType:
        return {"anyOf": [_schema(argument) for argument in arguments]}
    raise AssertionError(f"no report holds a {declared}")


def _object(declared: Any) -> dict[str, Any]:
    hints = get_type_hints(declared)
    # `__required_keys__` cannot see through annotations that are not evaluated yet.
    marked = get_type_hints(declared, include_extras=True)
    optional = {name for name, hint in marked.items() if get_origin(hint) is NotRequired}
    return {
        "type": "object",
        "description": textwrap.dedent("    " + (declared.__doc__ or "")).strip(),
        "properties": {name: _schema(hint) for name, hint in hints.items()},
        "required": sorted(hints.keys() - optional),
    }
