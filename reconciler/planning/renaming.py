"""What a change removes and adds with the same value: one entity that has another name. Pure.

Called for `plan` by `reconciler.planning.consequences`, and by `reconciler.loop` for what the
history tells of a commit, so that both tell the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from reconciler.catalog.relations import View, users
from schemas.changes.change import Change
from schemas.entities.entity import EntityKey, canonical
from schemas.kinds.backend import Backend

_Signs = dict[EntityKey, set[object]]


def renames(changes: Sequence[Change], before: View, after: View) -> dict[EntityKey, EntityKey]:
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
        added = come.get(value, [])
        if not added:
            continue
        found = (
            _alike(_signs(removed, before), _signs(added, after))
            if value[0] == "cluster"
            else _paired(removed, added)
        )
        for one, other in found:
            pairs[one], pairs[other] = other, one
    return pairs


def _signs(keys: Iterable[EntityKey], view: View) -> _Signs:
    """By what clusters are known again: their backends, or without any those who lead there.

    Most have no value of their own.
    """
    found: _Signs = {}
    for key in keys:
        backends = view.names("backend", f"{key.name}/")
        found[key] = {view[EntityKey("backend", name)].typed(Backend).address for name in backends}
        found[key] = found[key] or {*users(view, key)}
    return found


def _alike(removed: _Signs, added: _Signs) -> list[tuple[EntityKey, EntityKey]]:
    """Pair clusters of which each has something that one other has, and nobody else."""
    owners: list[defaultdict[object, list[EntityKey]]] = [defaultdict(list), defaultdict(list)]
    for signs, owner in zip((removed, added), owners, strict=True):
        for key, each in signs.items():
            for sign in each:
                owner[sign].append(key)
    ways: defaultdict[EntityKey, set[EntityKey]] = defaultdict(set)
    for sign, was in owners[0].items():
        if len(was) == len(owners[1].get(sign, ())) == 1:
            one, other = was[0], owners[1][sign][0]
            ways[one].add(other)
            ways[other].add(one)
    return [(one, next(iter(ways[one]))) for one in removed if _is_sure(one, ways)]


def _is_sure(one: EntityKey, ways: Mapping[EntityKey, set[EntityKey]]) -> bool:
    others = ways.get(one, set())
    return len(others) == 1 and all(len(ways[other]) == 1 for other in others)


def _paired(
    removed: list[EntityKey], added: list[EntityKey]
) -> Iterable[tuple[EntityKey, EntityKey]]:
    """Pair what is surely the same: one of each, or backends that keep their own name."""
    if len(removed) == len(added) == 1:
        return [(removed[0], added[0])]
    names = {key.name.rpartition("/")[2]: key for key in added if "/" in key.name}
    own = [(key, names.get(key.name.rpartition("/")[2])) for key in removed if "/" in key.name]
    return [(one, other) for one, other in own if other is not None]
