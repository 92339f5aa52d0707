"""Two views of a configuration: one in memory, and one with a change laid over another view.

Staging asks a `StagedView` and so writes nothing into what is accepted, however many stage at once.
`MemoryView` is what `validate` and a first load begin with. Called by `reconciler.catalog`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from heapq import nsmallest

from reconciler.catalog.relations import (
    EXPRESSION,
    LOOKED_AT_MAX,
    Relate,
    View,
    expression_terms,
    relations_of,
)
from schemas.entities.entity import Entity, EntityKey, Mark

LAST = "\U0010ffff"
"""Behind every character that a name may have."""


class MemoryView:
    """Entities in a dictionary. `put` and `remove` are for whoever owns it."""

    def __init__(self, entities: Iterable[Entity] = (), relate: Relate = relations_of) -> None:
        self._relate = relate
        self._entities: dict[EntityKey, Entity] = {}
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        # A kind's names in order, from the first question for them to the next change of them.
        self._ordered: dict[str, list[str]] = {}
        # A relation's terms in order, likewise.
        self._terms: dict[str, list[str]] = {}
        self._rows: defaultdict[str, defaultdict[str, dict[EntityKey, str]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        self.files: dict[str, dict[EntityKey, Mark]] = {}
        for entity in entities:
            self.put(entity)

    def put(self, entity: Entity) -> None:
        """Take an entity in, in the place of one of its key."""
        self.remove(entity.key)
        self._entities[entity.key] = entity
        self._names[entity.key.kind].add(entity.key.name)
        self._ordered.pop(entity.key.kind, None)
        for row in self._relate(entity):
            terms = self._rows[row.relation]
            if row.term not in terms:
                self._terms.pop(row.relation, None)
            terms[row.term][entity.key] = row.note

    def remove(self, key: EntityKey) -> None:
        """Take an entity out, if it is there."""
        entity = self._entities.pop(key, None)
        if entity is None:
            return
        self._names[key.kind].discard(key.name)
        self._ordered.pop(key.kind, None)
        for row in self._relate(entity):
            terms = self._rows[row.relation]
            terms[row.term].pop(key, None)
            if not terms[row.term]:
                del terms[row.term]
                self._terms.pop(row.relation, None)

    def __len__(self) -> int:
        return len(self._entities)

    def values(self) -> Iterable[Entity]:
        """Return all entities."""
        return self._entities.values()

    def get(self, key: EntityKey, /) -> Entity | None:
        """Return an entity, or None."""
        return self._entities.get(key)

    def __getitem__(self, key: EntityKey, /) -> Entity:
        return self._entities[key]

    def __contains__(self, key: object, /) -> bool:
        return key in self._entities

    def names(self, kind: str, under: str = "") -> list[str]:
        """Return the names of a kind that begin by `under`, in order."""
        ordered = self._ordered.get(kind)
        if ordered is None:
            ordered = self._ordered[kind] = sorted(self._names.get(kind, ()))
        first = bisect_left(ordered, under)
        return ordered[first : bisect_left(ordered, under + LAST, first)] if under else ordered[:]

    def count(self, kind: str) -> int:
        """Return how many of a kind there are."""
        return len(self._names.get(kind, ()))

    def related(self, relation: str, term: str = "") -> dict[EntityKey, str]:
        """Return the entities under a term, with their notes."""
        return dict(self._rows[relation].get(term, {}))

    def related_under(
        self, relation: str, prefix: str, most: int | None = None
    ) -> dict[str, dict[EntityKey, str]]:
        """Return what `related` does for terms that begin by `prefix`: all, or `most` at most."""
        terms, ordered = self._rows[relation], self._terms.get(relation)
        if ordered is None:
            ordered = self._terms[relation] = sorted(terms)
        first = bisect_left(ordered, prefix)
        last = bisect_left(ordered, prefix + LAST, first)
        return {term: dict(terms[term]) for term in ordered[first:last][:most]}

    def weight(self) -> int:
        """Return what all expressions take in a worker, in bytes."""
        return sum(map(_weight, self._rows[EXPRESSION].values()))

    def heaviest(self, most: int) -> list[tuple[int, EntityKey]]:
        """Return what the largest expressions take, and who has them."""
        rows = self._rows[EXPRESSION].values()
        found = ((int(note), key) for keys in rows for key, note in keys.items())
        return nsmallest(most, found, key=lambda each: (-each[0], each[1]))

    def marks(self, path: str) -> dict[EntityKey, Mark]:
        """Return what a file defines."""
        return self.files.get(path, {})

    def expect(self, keys: Iterable[EntityKey]) -> None:
        """Know that these are about to be asked for: they are at hand."""

    def expect_files(self, paths: Iterable[str]) -> None:
        """Know that it is about to be asked what these files define: it is at hand."""


def laid_over(
    base: View,
    desired: Mapping[EntityKey, Entity | None],
    moved: Mapping[EntityKey, Entity],
    relate: Relate = relations_of,
) -> View:
    """Return what an `StagedView` shows; over nothing, as at a first load, without asking it."""
    if isinstance(base, MemoryView) and not len(base):
        return MemoryView((each for each in desired.values() if each is not None), relate)
    return StagedView(base, desired, moved, relate)


def _weight(found: Mapping[EntityKey, str]) -> int:
    """Return what the expression of a term takes, by all who have it."""
    return max(map(int, found.values()), default=0)


class StagedView:
    """A view with some entities put, removed (None) or moved to another place of the files."""

    def __init__(
        self,
        base: View,
        desired: Mapping[EntityKey, Entity | None],
        moved: Mapping[EntityKey, Entity],
        relate: Relate = relations_of,
    ) -> None:
        self._base = base
        self._desired = desired
        self._moved = moved
        self._over = MemoryView((each for each in desired.values() if each is not None), relate)
        self._gone = Counter(key.kind for key in desired if key in base)

    def get(self, key: EntityKey, /) -> Entity | None:
        """Return an entity, or None."""
        if key in self._desired:
            return self._desired[key]
        return self._moved.get(key) or self._base.get(key)

    def __getitem__(self, key: EntityKey, /) -> Entity:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: object, /) -> bool:
        if isinstance(key, EntityKey) and key in self._desired:
            return self._desired[key] is not None
        return key in self._base

    def names(self, kind: str, under: str = "") -> list[str]:
        """Return the names of a kind that begin by `under`, in order."""
        kept = self._base.names(kind, under)
        found = {name for name in kept if EntityKey(kind, name) not in self._desired}
        return sorted(found.union(self._over.names(kind, under)))

    def count(self, kind: str) -> int:
        """Return how many of a kind there are."""
        return self._base.count(kind) - self._gone[kind] + self._over.count(kind)

    def related(self, relation: str, term: str = "") -> dict[EntityKey, str]:
        """Return the entities under a term, with their notes."""
        kept = self._base.related(relation, term)
        return self._kept(kept) | self._over.related(relation, term)

    def related_under(
        self, relation: str, prefix: str, most: int | None = None
    ) -> dict[str, dict[EntityKey, str]]:
        """Return what `related` does for terms that begin by `prefix`: all, or about `most`."""
        kept = self._base.related_under(relation, prefix, most)
        found = {term: left for term, keys in kept.items() if (left := self._kept(keys))}
        for term, keys in self._over.related_under(relation, prefix, most).items():
            found[term] = found.get(term, {}) | keys
        return found

    def weight(self) -> int:
        """Return what all expressions take in a worker, in bytes."""
        weight = self._base.weight()
        terms: set[str] = set()
        for key, entity in self._desired.items():
            if key.kind == "frontend":
                both = entity, self._base.get(key)
                terms.update(*(expression_terms(each) for each in both if each is not None))
        for term in terms:
            weight += _weight(self.related(EXPRESSION, term))
            weight -= _weight(self._base.related(EXPRESSION, term))
        return weight

    def heaviest(self, most: int) -> list[tuple[int, EntityKey]]:
        """Return what the largest expressions take, and who has them."""
        # Of those some are changed, or gone.
        found = self._base.heaviest(most + min(len(self._desired), LOOKED_AT_MAX))
        kept = [each for each in found if each[1] not in self._desired]
        both = (*kept, *self._over.heaviest(most))
        return nsmallest(most, both, key=lambda each: (-each[0], each[1]))

    def marks(self, path: str) -> dict[EntityKey, Mark]:
        """Return what a file defined before the change."""
        return self._base.marks(path)

    def expect(self, keys: Iterable[EntityKey]) -> None:
        """Know that these are about to be asked for."""
        self._base.expect(key for key in keys if key not in self._desired)

    def expect_files(self, paths: Iterable[str]) -> None:
        """Know that it is about to be asked what these files defined."""
        self._base.expect_files(paths)

    def _kept(self, found: dict[EntityKey, str]) -> dict[EntityKey, str]:
        return {key: note for key, note in found.items() if key not in self._desired}
