"""What a change means for others: who takes requests over, who is left without a backend.

Pure but for sockets of this machine (`unreached`): asks two views, as it was and as it would be.
`router` is the engine's own routing. Called for `plan`, with and without a daemon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest

from reconciler.catalog.candidates import covering
from reconciler.catalog.fallbacks import served_by
from reconciler.catalog.policies import concerned
from reconciler.catalog.relations import (
    View,
    cluster_of,
    is_wide,
    users,
)
from reconciler.planning.heirs import Effort, Search
from reconciler.planning.near import Moved
from reconciler.planning.planner import MATCHING
from reconciler.planning.renaming import renames
from reconciler.planning.samples import Router
from reconciler.planning.unbacked import Leading, leaving_none
from reconciler.planning.unfetched import unfetched
from reconciler.planning.unreached import unreached
from reconciler.planning.unserved import unserved
from schemas.changes.change import Change
from schemas.changes.plan import Consequence
from schemas.entities.entity import EntityKey
from schemas.kinds.frontend import Frontend
from schemas.messages.control import HEIRS_OF_MAX

NAMED_MAX = 100
MOVED_MAX = 500
"""So many hostnames of changed frontends are asked for under wildcards of others."""
_MATCHING = MATCHING | {"client_certificate"}

Meaning = Callable[[Sequence[Change], View, View], Mapping[EntityKey, Consequence]]
"""Returns what changes mean for others, by the views as it was and as it would be."""


def consequences(
    changes: Sequence[Change],
    before: View,
    after: View,
    router: Router,
    drained: Collection[str] = (),
    *,
    is_here: bool = True,
) -> dict[EntityKey, Consequence]:
    """Return what each change means for others, where it means anything.

    `is_here`: the views are of the machine that serves, with what has been fetched there.
    """
    renamed = renames(changes, before, after)
    found: dict[EntityKey, Consequence] = {}
    unusable = leaving_none(changes, before, after, drained)
    leading = Leading(before, after, drained)
    lost = unserved(changes, before, after)
    asked = [each for each in changes if each.key.kind == "frontend"][:HEIRS_OF_MAX]
    moved, effort = _moved(asked), Effort()
    others = (each for each in changes if each.key.kind in ("listener", "policy"))
    waiting = unfetched([*asked, *others], before, after, is_here=is_here)
    absent = unreached(changes) if is_here else {}
    inheriting = {
        each.key: _inheriting(each, (before, after), router, effort, moved)
        for each in asked
        if each.key not in renamed
    }
    for change in changes:
        frontends, more_frontends = _frontends(change, before, after)
        inherits = inheriting.get(change.key, Consequence())
        consequence = replace(
            inherits,
            frontends=frontends,
            more_frontends=more_frontends,
            leaves_no_backend=change.key in unusable,
            then=_then(change.key, after, drained) if change.key in unusable else None,
            leads_to_no_backend=leading.to_none(
                change, inherits.heirs or (), inherits.takes_from or ()
            ),
            without_certificate=tuple(lost.get(change.key, ())),
            without_keys=tuple(waiting.get(change.key, ())),
            unreached=absent.get(change.key),
            ends_drain=_ends_drain(renamed.get(change.key), change, drained),
            drained=_is_drained(change, drained),
            renamed=renamed.get(change.key),
        )
        if consequence != Consequence():
            found[change.key] = consequence
    return found


def _ends_drain(other: EntityKey | None, change: Change, drained: Collection[str]) -> bool:
    """Tell whether a backend comes back to service by a name that nobody has drained."""
    if other is None or change.action != "add" or change.key.kind != "backend":
        return False
    return other.name in drained and change.key.name not in drained


def _then(backend: EntityKey, after: View, drained: Collection[str]) -> str | None:
    return served_by(cluster_of(backend), after, drained)


def _is_drained(change: Change, drained: Collection[str]) -> bool:
    return change.key.kind == "backend" and change.after is not None and change.key.name in drained


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
    # Clusters that fall back to it have frontends of their own.
    frontends = {key for key in named if key.kind == "frontend"}
    return frontends.union(*(concerned(key, view) for key in policies))


def _inheriting(
    change: Change, views: tuple[View, View], router: Router, effort: Effort, moved: Moved
) -> Consequence:
    """Return who takes a frontend's former requests over, and from whom it takes new ones."""
    changed = {each.path.partition(".")[0] for each in change.fields}
    if change.action == "update" and not changed & _MATCHING:
        return Consequence()
    was, will_be = (
        [] if each is None else each.typed(Frontend).names for each in (change.before, change.after)
    )
    found: list[tuple[str | None, ...] | None] = [None, None]
    untried = []
    before, after = views
    for number, (frontend, here, there, names, others) in enumerate(
        (
            (change.before, before, after, was, will_be),
            (change.after, after, before, will_be, was),
        )
    ):
        if frontend is None:
            continue
        # First those that the change brings or takes.
        ordered = sorted(names, key=lambda name: name in others)
        taken = Search(frontend, here, there, router, effort, moved).taken(ordered)
        # Of what it keeps nothing is said.
        taken.names.pop(change.key.name, None)
        found[number] = tuple(sorted(taken.names, key=lambda each: (each is None, each))) or None
        if not taken.whole:
            untried.append(("heirs", "takes_from")[number])
    return Consequence(heirs=found[0], takes_from=found[1], untried=tuple(untried))


def _moved(changes: Iterable[Change]) -> Moved:
    sides = ((each.key, side) for each in changes for side in (each.before, each.after))
    keys: defaultdict[str, dict[EntityKey, None]] = defaultdict(dict)
    for key, side in sides:
        for name in side.typed(Frontend).names if side is not None else ():
            if name in keys or len(keys) < MOVED_MAX:
                keys[name][key] = None
    below: defaultdict[str, list[str]] = defaultdict(list)
    for name in keys:
        for wide in covering(name.removeprefix("*.")):
            if is_wide(wide) and wide != name:
                below[wide].append(name)
    return Moved({name: list(found) for name, found in keys.items()}, below)
