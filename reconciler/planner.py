"""The planner: changes → a plan, in an order that makes before it breaks, with what each does.

Called by the daemon for a commit and by `plan` for anything. Decides nothing but order and words:
whether a plan may run is up to the guards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from schemas.change import Change
from schemas.diagnostic import Diagnostic
from schemas.entity import EntityKey
from schemas.plan import Plan

_ORDER = ("settings", "certificate", "cluster", "backend", "listener", "frontend")
"""What is referred to comes before what refers to it; removals go the other way."""


def make_plan(
    changes: Iterable[Change],
    commit: str | None,
    warnings: Iterable[Diagnostic] = (),
    connections: Mapping[EntityKey, int] | None = None,
) -> Plan:
    """Return the plan of some changes; `connections` are those open now, where they are known."""
    ordered = tuple(sorted(changes, key=_position))
    counted = connections or {}
    effects = {change.key: _effect(change, counted.get(change.key)) for change in ordered}
    return Plan(commit, ordered, tuple(warnings), effects)


def _position(change: Change) -> tuple[int, str]:
    rank = _ORDER.index(change.key.kind)
    return (rank if change.action != "remove" else 2 * len(_ORDER) - rank, change.key.name)


def _effect(change: Change, connections: int | None) -> str:
    effect = _EFFECTS[change.key.kind, change.action]
    return effect if isinstance(effect, str) else effect(change, connections)


def _changed(change: Change) -> set[str]:
    """Return the top-level fields that a change touches."""
    return {field.path.partition(".")[0] for field in change.fields}


def _open(connections: int | None) -> str:
    if connections is None:
        return "what is open"
    return f"{connections} open connection{'' if connections == 1 else 's'}"


def _update_settings(change: Change, _connections: int | None) -> str:
    if "workers" in _changed(change):
        return "starts or drains workers until the number is right"
    return "takes effect with the next request; no connection is closed"


def _update_listener(change: Change, connections: int | None) -> str:
    if "address" in _changed(change):
        return f"opens the new socket on every worker, then drains {_open(connections)} on the old"
    return "takes effect with the next request; no connection is closed"


def _remove_listener(_change: Change, connections: int | None) -> str:
    return f"closes the socket on every worker; drains {_open(connections)}"


def _update_backend(change: Change, connections: int | None) -> str:
    if "address" in _changed(change):
        return f"new requests go to the new address; drains {_open(connections)} at the old one"
    after = change.after
    if after is not None and after.value.get("weight") == 0:
        return "gets no new requests; those in flight end"
    return "changes its share of new requests; no connection is closed"


def _remove_backend(_change: Change, connections: int | None) -> str:
    return f"gets no new requests; drains {_open(connections)}"


def _update_frontend(change: Change, _connections: int | None) -> str:
    if _changed(change) == {"cluster"}:
        field = next(iter(change.fields))
        return f'sends new requests to cluster "{field.after}"; those in flight end at the old one'
    return "matches new requests anew; those in flight end as they began"


_EFFECTS: dict[tuple[str, str], str | Callable[[Change, int | None], str]] = {
    ("settings", "add"): "sets what holds for the whole proxy",
    ("settings", "update"): _update_settings,
    ("settings", "remove"): "goes back to the defaults",
    ("certificate", "add"): "is served to handshakes that ask for its hostnames",
    ("certificate", "update"): "is served from the next handshake on; no connection is closed",
    ("certificate", "remove"): "is served no more; connections made with it live on",
    ("cluster", "add"): "makes the cluster known to every worker",
    ("cluster", "update"): "takes effect with the next request; no connection is closed",
    ("cluster", "remove"): "is forgotten once its last request has ended",
    ("backend", "add"): "gets its share of new requests",
    ("backend", "update"): _update_backend,
    ("backend", "remove"): _remove_backend,
    ("listener", "add"): "opens a socket on every worker",
    ("listener", "update"): _update_listener,
    ("listener", "remove"): _remove_listener,
    ("frontend", "add"): "takes the requests that it matches",
    ("frontend", "update"): _update_frontend,
    ("frontend", "remove"): "takes no new requests; those in flight end",
}
