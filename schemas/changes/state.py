"""The state: all entities, and the digest by which two states are compared in one look.

The digest is the sum of the entities' hashes modulo 2**128. It does not depend on order, and a
change of k entities costs k. The reconciler has the running state in its database; workers
compare digests against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from schemas.entities.entity import KINDS, Entity, EntityKey, entity_hash

if TYPE_CHECKING:
    from schemas.changes.change import Change

EMPTY_DIGEST = "0" * 32
_MODULUS = 1 << 128


class StateMismatchError(ValueError):
    """A change does not fit the state it was applied to: ours to blame, never the operator's."""


class Entities(Protocol):
    """Entities by key, wherever they lie: a `State`, or what the daemon has in its database."""

    def get(self, key: EntityKey, /) -> Entity | None:
        """Return an entity, or None."""

    def __getitem__(self, key: EntityKey, /) -> Entity:
        """Return an entity. Raises `KeyError`."""

    def names(self, kind: str, /) -> list[str]:
        """Return the names of a kind in order."""

    def count(self, kind: str, /) -> int:
        """Return how many of a kind there are."""


class State:
    """A map (kind, name) → entity with an incremental digest."""

    __slots__ = ("_names", "_sum", "entities")

    def __init__(self, entities: Iterable[Entity] = ()) -> None:
        self.entities: dict[EntityKey, Entity] = {}
        self._names: dict[str, set[str]] = {kind: set() for kind in KINDS}
        self._sum = 0
        for entity in entities:
            self._put(entity)

    @property
    def digest(self) -> str:
        """The digest: 32 hex digits in lower case."""
        return f"{self._sum:032x}"

    def get(self, key: EntityKey) -> Entity | None:
        """Return an entity, or None."""
        return self.entities.get(key)

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind in order."""
        return sorted(self._names.get(kind, ()))

    def count(self, kind: str) -> int:
        """Return how many of a kind there are."""
        return len(self._names.get(kind, ()))

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes; all of them, or none if one does not fit (StateMismatchError)."""
        changes = tuple(changes)
        self._check(changes)
        for change in changes:
            if change.after is not None:
                self._put(change.after)
            else:
                self._remove(change.key)

    def recomputed_digest(self) -> str:
        """Return the digest computed anew from all entities: the audit of the incremental one."""
        return State(self.entities.values()).digest

    def __len__(self) -> int:
        return len(self.entities)

    def __iter__(self) -> Iterator[EntityKey]:
        return iter(self.entities)

    def __contains__(self, key: object) -> bool:
        return key in self.entities

    def __getitem__(self, key: EntityKey) -> Entity:
        return self.entities[key]

    def __eq__(self, other: object) -> bool:
        """Equal values under equal keys; where an entity was written does not matter."""
        if not isinstance(other, State):
            return NotImplemented
        return self.entities.keys() == other.entities.keys() and all(
            entity.value == other.entities[key].value for key, entity in self.entities.items()
        )

    __hash__ = None  # type: ignore[assignment]  # a state changes in place

    def _check(self, changes: tuple[Change, ...]) -> None:
        seen: set[EntityKey] = set()
        for change in changes:
            if change.key in seen:
                raise StateMismatchError(f"{change.key} is changed twice at once")
            seen.add(change.key)
            if (change.action == "add") == (change.key in self.entities):
                presence = "is there already" if change.action == "add" else "is not there"
                raise StateMismatchError(f"cannot {change.action} {change.key}: it {presence}")

    def _put(self, entity: Entity) -> None:
        self._remove(entity.key)
        self.entities[entity.key] = entity
        self._names[entity.key.kind].add(entity.key.name)
        self._sum = (self._sum + entity_hash(entity.key, entity.value)) % _MODULUS

    def _remove(self, key: EntityKey) -> None:
        entity = self.entities.pop(key, None)
        if entity is not None:
            self._names[key.kind].discard(key.name)
            self._sum = (self._sum - entity_hash(key, entity.value)) % _MODULUS
