"""Clusters without a backend that takes requests, and the changes by which requests get 503 there.

A backend takes none where it is drained or has no weight. Pure. Called by `consequences` beside,
and by whoever says what a drain means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from reconciler.catalog.fallbacks import served_by, usable
from reconciler.catalog.policies import policies_of
from reconciler.catalog.relations import View, cluster_of, is_aside, waited_for
from schemas.changes.change import Change
from schemas.entities.entity import Entity, EntityKey


def leaving_none(
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


class Leading:
    """Where requests come to by a change, of which nobody takes any."""

    def __init__(self, before: View, after: View, drained: Collection[str]) -> None:
        self._before = before
        self._after = after
        self._drained = drained
        self._usable: dict[str, bool] = {}

    def to_none(
        self, change: Change, heirs: Iterable[str | None], takes_from: Iterable[str | None]
    ) -> tuple[str, ...]:
        """Return the clusters without a backend to which a change brings requests.

        `heirs` take over what it had, and it takes what `takes_from` had.
        """
        own = _waited_for(change.after, self._after)
        former = _waited_for(change.before, self._before)
        others = [self._frontend(name, self._before) for name in takes_from]
        found = set[str]()
        if change.before is not None or None in others or not others:
            found |= own - former
        for each in others:
            found |= own - _waited_for(each, self._before) if each is not None else set()
        for name in heirs:
            found |= _waited_for(self._frontend(name, self._after), self._after) - former
        return tuple(sorted(name for name in found if not self._is_usable(name)))

    def _frontend(self, name: str | None, view: View) -> Entity | None:
        return view.get(EntityKey("frontend", name)) if name is not None else None

    def _is_usable(self, cluster: str) -> bool:
        """Of many that lead to one it is looked up once."""
        if cluster not in self._usable:
            is_there = EntityKey("cluster", cluster) in self._after
            at = (cluster, self._after, self._drained)
            served = usable(*at) or served_by(*at) is not None
            self._usable[cluster] = not is_there or served
        return self._usable[cluster]


def _waited_for(entity: Entity | None, view: View) -> set[str]:
    """Return the clusters that clients wait for by an entity and the policies that it names."""
    if entity is None:
        return set()
    return waited_for(entity).union(*map(waited_for, policies_of(entity, view)))
