"""The planner: changes → a plan, in an order that makes before it breaks, with what each does.

Called by the daemon for a commit and by `plan` for anything. Decides nothing but order and words:
whether a plan may run is up to the guards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field

from schemas.changes.change import Change, FieldChange
from schemas.changes.plan import Consequence, InUse, Plan
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.certificate import Certificate
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.settings import Settings
from schemas.policies.effects import switched_off
from schemas.record import record
from schemas.routes.split import shares_of

_ORDER = ("settings", "certificate", "cluster", "backend", "policy", "listener", "frontend")
"""What is referred to comes before what refers to it; removals go the other way."""


MATCHING = frozenset(
    (
        "client_addresses",
        "cookies",
        "headers",
        "hostname",
        "hostnames",
        "listeners",
        "methods",
        "passthrough",
        "path",
        "query",
    )
)
"""The fields of a frontend that say which requests it takes."""

_COUNTING = ("rate_limit", "concurrency")
_EACH_SHOWN_MAX = 8
"""With more workers that leave, only their sum is said."""


@record
class Live:
    """What is in use on the proxy that runs, as far as it is known."""

    connections: Mapping[EntityKey, int] = field(default_factory=dict)
    """Open to a backend, or from clients of a listener."""
    requests: Mapping[EntityKey, int] = field(default_factory=dict)
    """In flight, of a frontend, cluster or backend."""
    leaving: Mapping[int, int] = field(default_factory=dict)
    """The workers that are too many afterwards, with their client connections."""
    starting: range = range(0)
    """The workers that are missing afterwards."""


NOTHING_KNOWN = Live()


def make_plan(
    changes: Iterable[Change],
    commit: str | None,
    warnings: Iterable[Diagnostic] = (),
    live: Live = NOTHING_KNOWN,
    meant: Mapping[EntityKey, Consequence] | None = None,
) -> Plan:
    """Return the plan of some changes; `live` is what they touch, `meant` what they mean."""
    ordered = in_order(changes)
    meant = meant or {}
    effects = {
        change.key: _effect(change, live, meant.get(change.key, Consequence()))
        for change in ordered
    }
    in_use = {
        change.key: InUse(live.connections.get(change.key), live.requests.get(change.key))
        for change in ordered
    }
    return Plan(commit, ordered, tuple(warnings), effects, consequences=meant, in_use=in_use)


def in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return changes in the order of a plan: who is named before who names it."""
    return tuple(sorted(changes, key=_position))


def _position(change: Change) -> tuple[int, str]:
    return position(change.key, removed=change.action == "remove")


def position(key: EntityKey, *, removed: bool) -> tuple[int, str]:
    """Return by what a change is put in its place in a plan."""
    rank = _ORDER.index(key.kind)
    return (2 * len(_ORDER) - rank if removed else rank, key.name)


def _effect(change: Change, live: Live, meant: Consequence) -> str:
    if meant.renamed is not None and change.action == "add":
        counts = _counts_anew(change)
        return f"is renamed: its value stays{counts}; {_renamed(change, meant.renamed, live)}"
    if meant.drained and not _weightless(change):
        return _of_drained(change, live)
    effect = _EFFECTS[change.key.kind, change.action]
    told = effect if isinstance(effect, str) else effect(change, live)
    return f"{told}{_switched_off(change)}"


def _switched_off(change: Change) -> str:
    """Say what a written null switches off from then on, and which does so no more."""
    before, after = (
        set(switched_off(side.value)) if side is not None and side.key.kind in _SWITCHING else set()
        for side in (change.before, change.after)
    )
    said = [("switches off", after - before)]
    said += [("no longer switches off", before - after)] if change.action == "update" else []
    return "".join(f"; {verb} {_paths(found)}" for verb, found in said if found)


def _paths(found: Collection[str]) -> str:
    first = sorted(found)[:_EACH_SHOWN_MAX]
    more = len(found) - len(first)
    return " and ".join(first) if not more else f"{', '.join(first)} and {more} more"


_SWITCHING = ("frontend", "listener", "policy")


def _counts_anew(change: Change) -> str:
    """Say which of its counts go with the former name."""
    after = change.after.value if change.after else {}
    counting = [key for key in _COUNTING if after.get(key) is not None]
    return f", {' and '.join(counting)} begins to count anew" if counting else ""


def _renamed(change: Change, former: EntityKey, live: Live) -> str:
    """Say what becomes of what is in use by the former name."""
    match change.key.kind:
        case "listener":
            return f"keeps its sockets, and drains {_open(former, live)} of the old name"
        case "backend":
            return f"opens connections of its own, and drains {_open(former, live)} of the old name"
        case "cluster" | "frontend":
            return _ending(former, live, " as before")
        case _:
            return "no connection is closed"


def _changed(change: Change) -> set[str]:
    """Return the top-level fields that a change touches."""
    return {field.path.partition(".")[0] for field in change.fields}


def _open(key: EntityKey, live: Live) -> str:
    count = live.connections.get(key)
    return "its open connections" if count is None else _counted(count)


def _counted(connections: int) -> str:
    return f"{connections} open connection{'' if connections == 1 else 's'}"


def _ending(key: EntityKey, live: Live, where: str = "") -> str:
    """Say what becomes of the requests in flight."""
    count = live.requests.get(key)
    if count is None:
        return f"those in flight end{where}"
    if count == 0:
        return "none is in flight"
    return f"the {count} in flight end{'s' if count == 1 else ''}{where}"


def _update_settings(change: Change, live: Live) -> str:
    changed = _changed(change)
    if "workers" not in changed:
        return _soon(change)
    texts = [_change_of_workers(live)]
    if len(changed) > 1:
        texts.append("the rest takes effect with the next request")
        texts += [_MAKES_ROOM] if _is_lowered(change) else []
    return "; ".join(texts)


def _soon(change: Change) -> str:
    """Say when a change counts that ends nothing, unless it allows fewer connections."""
    is_alone = all(map(_is_of_connections, change.fields))
    when = f"takes effect with the next {'connection' if is_alone else 'request'}"
    return f"{when}; {_MAKES_ROOM if _is_lowered(change) else 'no connection is closed'}"


def _is_lowered(change: Change) -> bool:
    was, will_be = (_connections(each) for each in (change.before, change.after))
    return was > will_be


def _connections(side: Entity | None) -> int:
    """Return how many connections settings, or a listener, allow."""
    if side is None:
        return 0
    if side.key.kind == "settings":
        return side.typed(Settings).max_connections
    return side.typed(Listener).limits.connections


def _is_of_connections(changed: FieldChange) -> bool:
    whole = [each for each in (changed.before, changed.after) if isinstance(each, Mapping)]
    if changed.path == "limits":
        return all(each.keys() <= {"connections"} for each in whole)
    return changed.path in ("limits.connections", "max_connections")


_MAKES_ROOM = "where more are open, each new one closes idle ones, and gets 503 where none is idle"


def _change_of_workers(live: Live) -> str:
    if live.starting:
        return f"starts {_workers(list(live.starting))}"
    if not live.leaving:
        return "starts and drains no worker: their number stays"
    text = f"drains {_workers(sorted(live.leaving))} with {_counted(sum(live.leaving.values()))}"
    if 1 < len(live.leaving) <= _EACH_SHOWN_MAX:
        each = (f"{count} on {worker}" for worker, count in sorted(live.leaving.items()))
        text += f" ({', '.join(each)})"
    return text


def _workers(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"worker {numbers[0]}"
    return f"workers {numbers[0]} to {numbers[-1]}"


def _update_listener(change: Change, live: Live) -> str:
    if "address" in _changed(change):
        drained = _open(change.key, live)
        return f"opens the new socket on every worker, then drains {drained} on the old"
    begun = sorted(_changed(change) & _AT_THE_BEGINNING)
    if not begun:
        return _soon(change)
    when = "counts from the next connection on"
    if _changed(change) - _AT_THE_BEGINNING:
        when = f"takes effect with the next request, {' and '.join(begun)} with the next connection"
    room = f"; {_MAKES_ROOM}" if _is_lowered(change) else ""
    return f"{when}; what is open goes on as it began: {_open(change.key, live)}{room}"


_AT_THE_BEGINNING = {"h2c", "protocol", "proxy_protocol", "tls"}
"""What is settled when a client comes, for as long as it is connected."""


def _remove_listener(change: Change, live: Live) -> str:
    return f"closes the socket on every worker; drains {_open(change.key, live)}"


def _update_cluster(change: Change, live: Live) -> str:
    return f"takes effect with the next request; {_ending(change.key, live, ' as before')}"


def _remove_cluster(change: Change, live: Live) -> str:
    return f"is forgotten once its last request has ended; {_ending(change.key, live)}"


def _add_backend(change: Change, _live: Live) -> str:
    return "gets no requests: its weight is 0" if _weightless(change) else _SHARE


def _update_backend(change: Change, live: Live) -> str:
    if "address" in _changed(change):
        new = "new requests go to the new address"
        if _weightless(change):
            new = "gets no new requests"
        return f"{new}; drains {_open(change.key, live)} at the old one"
    if _weightless(change):
        return f"gets no new requests; {_ending(change.key, live)}"
    return "changes its share of new requests; no connection is closed"


def _of_drained(change: Change, live: Live) -> str:
    if change.before is None or "address" not in _changed(change):
        return "gets no requests: it is drained"
    return f"gets no requests: it is drained; drains {_open(change.key, live)} at the old address"


def _weightless(change: Change) -> bool:
    return change.after is not None and change.after.typed(Backend).weight == 0


def _remove_backend(change: Change, live: Live) -> str:
    return f"gets no new requests; drains {_open(change.key, live)}"


def _update_frontend(change: Change, live: Live) -> str:
    if _changed(change) <= {"cluster", "split", "split_by"} and change.after is not None:
        after = change.after.typed(Frontend)
        if after.split:
            shares = shares_of(after.split)
            to = ", ".join(f"{share} to {name}" for name, share in shares.items())
            return f"splits new requests: {to}; {_ending(change.key, live, ' as before')}"
        ending = _ending(change.key, live, " at the old one")
        return f'sends new requests to cluster "{after.cluster}"; {ending}'
    does = "matches new requests anew"
    if not _changed(change) & MATCHING:
        does = "takes effect with the next request"
    return f"{does}; {_ending(change.key, live, ' as before')}{_counted_otherwise(change)}"


def _update_policy(change: Change, _live: Live) -> str:
    return f"takes effect with the next request of those that name it{_counted_otherwise(change)}"


def _counted_otherwise(change: Change) -> str:
    """Say what begins to count anew since it goes by something else; another number goes on."""
    by = {".".join(field.path.split(".")[:2]) for field in change.fields}
    counting = [key for key in _COUNTING if f"{key}.by" in by]
    return f"; {' and '.join(counting)} begins to count anew" if counting else ""


def _remove_frontend(change: Change, live: Live) -> str:
    return f"takes no new requests; {_ending(change.key, live)}"


def _add_certificate(change: Change, live: Live) -> str:
    new = change.after.typed(Certificate) if change.after else None
    if new is not None and new.acme is not None:
        if new.certificate is None:
            return "is ordered, and served once it has been issued: until then nothing is"
        return "is served as what was issued before for its hostnames, until it is issued itself"
    return "is served to handshakes that ask for its hostnames"


def _update_certificate(change: Change, live: Live) -> str:
    new = change.after.typed(Certificate) if change.after else None
    if new is not None and new.acme is not None and not _changed(change) & _FILES:
        until = "nothing is served" if new.certificate is None else "it is served as it is"
        return f"is ordered anew where its hostnames or authority ask for it; until then {until}"
    return "is served from the next handshake on; no connection is closed"


_FILES = {"certificate", "private_key"}
_SHARE = "gets its share of new requests"
_EFFECTS: dict[tuple[str, str], str | Callable[[Change, Live], str]] = {
    ("settings", "add"): "sets what holds for the whole proxy",
    ("settings", "update"): _update_settings,
    ("settings", "remove"): "goes back to the defaults",
    ("certificate", "add"): _add_certificate,
    ("certificate", "update"): _update_certificate,
    ("certificate", "remove"): "is served no more; connections made with it live on",
    ("policy", "add"): "counts for whoever names it",
    ("policy", "update"): _update_policy,
    ("policy", "remove"): "counts for nobody any more",
    ("cluster", "add"): "makes the cluster known to every worker",
    ("cluster", "update"): _update_cluster,
    ("cluster", "remove"): _remove_cluster,
    ("backend", "add"): _add_backend,
    ("backend", "update"): _update_backend,
    ("backend", "remove"): _remove_backend,
    ("listener", "add"): "opens a socket on every worker",
    ("listener", "update"): _update_listener,
    ("listener", "remove"): _remove_listener,
    ("frontend", "add"): "takes the requests that it matches",
    ("frontend", "update"): _update_frontend,
    ("frontend", "remove"): _remove_frontend,
}
