"""What a change means for others: who takes requests over, who is left without a backend.

Pure: asks two views, as it was and as it would be. `rank` is the engine's own order of frontends.
Called for `plan`, with and without a daemon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import chain, islice, product
from urllib.parse import urlencode

from reconciler.catalog.candidates import candidates, covering
from reconciler.catalog.policies import concerned
from reconciler.catalog.relations import (
    MATCH,
    View,
    cluster_of,
    is_aside,
    is_passthrough,
    listeners_of,
    term,
    users,
)
from reconciler.planning.planner import MATCHING
from schemas.changes.change import Change
from schemas.changes.plan import Consequence
from schemas.entities.entity import Entity, EntityKey, canonical
from schemas.kinds.backend import Backend
from schemas.kinds.frontend import Frontend
from schemas.kinds.match import ValueMatch
from schemas.messages.control import HEIRS_OF_MAX
from schemas.values.regex import literal_prefix

CANDIDATES_MAX = 1000
"""So many frontends of one hostname and path are looked at; more differ by conditions alone."""
NAMED_MAX = 100
METHODS_MAX = 10
HOSTNAMES_MAX = 16
"""So many of a frontend's hostnames are asked for, first those that the change brings or takes."""
NEAR_MAX = 20
"""So many frontends beside one are looked at for what may tell its requests apart."""
SAMPLES_MAX = 300
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_NO_HOST = "host.invalid"
_BELOW = "any"
_MATCHING = MATCHING | {"client_certificate"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One request that a frontend matches."""

    hostname: str
    path: str
    query: str
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    client: str | None = None
    """The address of who asks; None where that is not known."""


Rank = Callable[[Iterable[Entity], Sample], Sequence[str]]
"""Returns the names of the frontends that match a request, the winner first."""
Meaning = Callable[[Sequence[Change], View, View], Mapping[EntityKey, Consequence]]
"""Returns what changes mean for others, by the views as it was and as it would be."""


def consequences(
    changes: Sequence[Change],
    before: View,
    after: View,
    rank: Rank,
    drained: Collection[str] = (),
) -> dict[EntityKey, Consequence]:
    """Return what each change means for others, where it means anything."""
    renamed = renames(changes)
    found: dict[EntityKey, Consequence] = {}
    unusable = _unusable(changes, before, after, drained)
    asked = islice((each for each in changes if each.key.kind == "frontend"), HEIRS_OF_MAX)
    inheriting = {
        each.key: _inheriting(each, before, after, rank)
        for each in asked
        if each.key not in renamed
    }
    for change in changes:
        heirs, takes_from = inheriting.get(change.key, (None, None))
        frontends, more_frontends = _frontends(change, before, after)
        consequence = Consequence(
            heirs=heirs,
            takes_from=takes_from,
            frontends=frontends,
            more_frontends=more_frontends,
            leaves_no_backend=change.key in unusable,
            ends_drain=_ends_drain(renamed.get(change.key), change, drained),
            drained=_is_drained(change, drained),
            renamed=renamed.get(change.key),
        )
        if consequence != Consequence():
            found[change.key] = consequence
    return found


def renames(changes: Sequence[Change]) -> dict[EntityKey, EntityKey]:
    """Return pairs of what is removed and added with the same value, by either key."""
    gone: defaultdict[tuple[str, bytes], list[EntityKey]] = defaultdict(list)
    come: defaultdict[tuple[str, bytes], list[EntityKey]] = defaultdict(list)
    for change in changes:
        if change.action == "remove" and change.before is not None:
            gone[change.key.kind, canonical(change.before.value)].append(change.key)
        elif change.action == "add" and change.after is not None:
            come[change.key.kind, canonical(change.after.value)].append(change.key)
    pairs: dict[EntityKey, EntityKey] = {}
    for value, removed in gone.items():
        for one, other in _paired(removed, come.get(value, [])):
            pairs[one], pairs[other] = other, one
    return pairs


def _ends_drain(other: EntityKey | None, change: Change, drained: Collection[str]) -> bool:
    """Tell whether a backend comes back to service by a name that nobody has drained."""
    if other is None or change.action != "add" or change.key.kind != "backend":
        return False
    return other.name in drained and change.key.name not in drained


def _is_drained(change: Change, drained: Collection[str]) -> bool:
    return change.key.kind == "backend" and change.after is not None and change.key.name in drained


def _paired(
    removed: list[EntityKey], added: list[EntityKey]
) -> Iterable[tuple[EntityKey, EntityKey]]:
    """Pair what is surely the same: one of each, or backends that keep their own name."""
    if len(removed) == len(added) == 1:
        return [(removed[0], added[0])]
    names = {key.name.rpartition("/")[2]: key for key in added if "/" in key.name}
    own = [(key, names.get(key.name.rpartition("/")[2])) for key in removed if "/" in key.name]
    return [(one, other) for one, other in own if other is not None]


def _frontends(change: Change, before: View, after: View) -> tuple[tuple[str, ...], int]:
    """Return the first frontends that a change of a cluster, or of policies, concerns.

    And how many more there are.
    """
    view = before if change.action == "remove" else after
    match change.key.kind:
        case "cluster":
            found = _asking(change.key, view)
        case "policy":
            found = concerned(change.key, view)
        case "listener" if any(each.path == "policies" for each in change.fields):
            found = users(view, change.key)
        case _:
            return (), 0
    named = tuple(nsmallest(NAMED_MAX, (key.name for key in found)))
    return named, len(found) - len(named)


def _asking(cluster: EntityKey, view: View) -> set[EntityKey]:
    """Return the frontends whose requests go to a cluster, or about which it is asked."""
    named = users(view, cluster)
    policies = {key for key in named if key.kind == "policy"}
    return (named - policies).union(*(concerned(key, view) for key in policies))


def _unusable(
    changes: Sequence[Change], before: View, after: View, drained: Collection[str]
) -> set[EntityKey]:
    """Return the changes by which a cluster loses its last backend that takes requests."""
    taking: defaultdict[str, list[EntityKey]] = defaultdict(list)
    for change in changes:
        if change.key.kind == "backend" and change.action != "add":
            taking[cluster_of(change.key)].append(change.key)
    return {
        key
        for cluster, keys in taking.items()
        if EntityKey("cluster", cluster) in after
        and usable(cluster, before, drained)
        and not usable(cluster, after, drained)
        and not is_aside(after, cluster)
        for key in keys
    }


def usable(cluster: str, view: View, drained: Collection[str] = ()) -> bool:
    """Tell whether any backend of a cluster takes new requests."""
    return any(
        name not in drained and view[EntityKey("backend", name)].typed(Backend).weight
        for name in view.names("backend", f"{cluster}/")
    )


def _inheriting(
    change: Change, before: View, after: View, rank: Rank
) -> tuple[tuple[str | None, ...] | None, tuple[str | None, ...] | None]:
    """Return who takes a frontend's former requests over, and from whom it takes new ones."""
    changed = {each.path.partition(".")[0] for each in change.fields}
    if change.action == "update" and not changed & _MATCHING:
        return None, None
    methods = "methods" in changed and change.action == "update"
    was, will_be = (
        [] if each is None else each.typed(Frontend).names for each in (change.before, change.after)
    )
    heirs = takes_from = None
    if change.before is not None:
        names = sorted(was, key=lambda name: name in will_be)
        heirs = _winners(change.before, names, (before, after), rank, methods=methods)
    if change.after is not None:
        names = sorted(will_be, key=lambda name: name in was)
        takes_from = _winners(change.after, names, (after, before), rank, methods=methods)
    own = change.key.name
    if heirs is not None and change.action == "update":
        heirs = tuple(each for each in heirs if each != own) or None
        takes_from = tuple(each for each in takes_from or () if each != own) or None
    return heirs, takes_from


def _winners(
    frontend: Entity, names: Sequence[str], views: tuple[View, View], rank: Rank, *, methods: bool
) -> tuple[str | None, ...] | None:
    """Return who serves in the second view what a frontend serves by these names in the first.

    On each of its listeners; None: 404.
    """
    if is_passthrough(frontend):
        return None
    here, there = views
    found: dict[str | None, None] = {}
    own = samples_of(frontend, names, methods=methods)
    for listener in listeners_of(frontend):
        if EntityKey("listener", listener) not in there:
            continue
        near = _near(there, listener, own)
        for sample in islice(chain(own, _between(own, near)), SAMPLES_MAX):
            if _winner(here, listener, sample, rank) == frontend.key.name:
                found[_winner(there, listener, sample, rank)] = None
    return tuple(found) or None


def _winner(view: View, listener: str, sample: Sample, rank: Rank) -> str | None:
    keys = sorted(candidates(view, listener, sample.hostname, sample.path))
    asked = [view[key] for key in islice(keys, CANDIDATES_MAX)]
    return next(iter(rank(asked, sample)), None)


def _near(view: View, listener: str, own: Sequence[Sample]) -> list[Entity]:
    """Return frontends of the same or wider hostnames, which may match some of its requests."""
    names = dict.fromkeys(name for each in own for name in covering(each.hostname))
    found: dict[EntityKey, None] = {}
    for name in islice(names, HOSTNAMES_MAX):
        under = view.related_under(MATCH, term(listener, name, ""), NEAR_MAX)
        found |= dict.fromkeys(key for keys in under.values() for key in keys)
    return [view[key] for key in islice(found, NEAR_MAX)]


def _between(own: Sequence[Sample], near: Iterable[Entity]) -> Iterator[Sample]:
    """Yield requests of its hostnames with the paths, methods and conditions of its neighbours."""
    others = [sample for each in near for sample in samples_of(each)]
    taken = {method for each in near for method in each.typed(Frontend).methods}
    # One that nobody asks for tells who takes all.
    free = next((method for method in _METHODS if method not in taken), own[0].method)
    methods = dict.fromkeys((own[0].method, free, *(each.method for each in others)))
    paths = dict.fromkeys(each.path for each in (*own, *others))
    asking = dict.fromkeys((own[0], *(_both(own[0], each) for each in others)))
    names = dict.fromkeys(each.hostname for each in own)
    for name, one, path, method in product(names, asking, paths, methods):
        yield replace(one, hostname=name, path=path, method=method)


def _both(one: Sample, other: Sample) -> Sample:
    """Return a request that meets the conditions of two, if those of the first allow it."""
    names = {name for name, _ in one.headers}
    return replace(
        one,
        query="&".join(filter(None, (one.query, other.query))),
        headers=(*one.headers, *(each for each in other.headers if each[0] not in names)),
        client=one.client or other.client,
    )


def samples_of(
    frontend: Entity, names: Sequence[str] = (), *, methods: bool = False
) -> list[Sample]:
    """Return requests that a frontend matches, as far as that can be seen at a glance.

    For some of its hostnames one for its path and one for what lies below that: others may take
    either. With `methods` the same for each that it takes.
    """
    asked = frontend.typed(Frontend)
    kind, path = asked.path.given()
    if kind == "suffix" and not path.startswith("/"):
        path = f"/any{path}"
    cookies = "; ".join(f"{name}={text}" for name, text in _met(asked.cookies))
    networks = asked.client_addresses
    first = Sample(
        hostname="",
        path=(literal_prefix(path) or "/") if kind == "regex" else path,
        query=urlencode(list(_met(asked.query))),
        method=next(iter(asked.methods), "GET"),
        headers=(*_met(asked.headers), *([("cookie", cookies)] if cookies else [])),
        client=networks[0].partition("/")[0] if networks else None,
    )
    paths = [first.path]
    if kind == "prefix":
        paths.append(f"{path.removesuffix('/')}/{_BELOW}")
    wanted = (asked.methods or _METHODS)[:METHODS_MAX] if methods else [first.method]
    return [
        replace(first, hostname=_asked_by(name), path=path, method=method)
        for name in islice(names or asked.names, HOSTNAMES_MAX)
        for path in paths
        for method in wanted
    ]


def _asked_by(hostname: str) -> str:
    if hostname == "*":
        return _NO_HOST
    return f"any{hostname[1:]}" if hostname.startswith("*.") else hostname


def _met(matches: Mapping[str, ValueMatch]) -> Iterator[tuple[str, str]]:
    """Yield values by which conditions are met: none where something must not be."""
    for name, match in matches.items():
        if not match.negated and match.present is not False:
            yield name, match.exact or ""
