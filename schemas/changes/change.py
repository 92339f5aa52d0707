"""The change: one difference between the desired and the running state, and its fields.

Made by the differ, ordered by the planner, applied by `State.apply`, printed by `plan`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from schemas.entities.entity import Entity, EntityKey, Json
from schemas.kinds.registry import written
from schemas.record import record

Action = Literal["add", "update", "remove"]
Missing = Literal["from", "to"]
Keyed = TypeVar("Keyed", "Change", Entity)


@record
class FieldChange:
    """One field that differs. `path` joins the keys by dots; lists are compared as a whole.

    A field of an added entity has the `before` null, one of a removed entity the `after`.
    """

    path: str
    before: Json
    after: Json
    missing: Missing | None = None
    """The side of a changed entity that has no such entry, where null could be one that is written:
    that takes a header away, and one that is taken out leaves it to policies."""


@record
class Change:
    """One entity that is added (no `before`), updated, or removed (no `after`).

    `fields` is for people: of an added or removed entity it has what is not the default.
    """

    action: Action
    key: EntityKey
    before: Entity | None
    after: Entity | None
    fields: tuple[FieldChange, ...]

    def to_json(self, render: bool = True) -> dict[str, Json]:
        """Return the form of `plan --json`; with `render`, durations and sizes as in YAML."""
        entity = self.after or self.before
        assert entity is not None, "a change has at least one side"
        return {
            "action": self.action,
            "kind": self.key.kind,
            "name": self.key.name,
            "fields": {field.path: self._field_json(field, render) for field in self.fields},
            "source": {"file": entity.provenance.file, "line": entity.provenance.line},
        }

    def _field_json(self, field: FieldChange, render: bool) -> Json:
        sides: dict[str, Json] = {"from": field.before, "to": field.after}
        if render:
            path = tuple(field.path.split("."))
            sides = {side: written(self.key.kind, path, value) for side, value in sides.items()}
        return sides | ({"missing": field.missing} if field.missing else {})


class Selectable(ABC):
    """Many changes or entities that lie somewhere, of which one may read some alone."""

    @abstractmethod
    def of_kinds(self, *kinds: str) -> Iterable[Any]:
        """Yield those of some kinds."""

    @abstractmethod
    def with_files(self) -> Iterable[Any]:
        """Yield those with a value that names files."""


def of_kinds(found: Iterable[Keyed], *kinds: str) -> Iterable[Keyed]:
    """Return the changes or entities of some kinds, without a walk over the others if possible."""
    if isinstance(found, Selectable):
        return found.of_kinds(*kinds)
    return (each for each in found if each.key.kind in kinds)


def with_files(found: Iterable[Keyed]) -> Iterable[Keyed]:
    """Return the changes or entities that may name files, without a walk over the others."""
    return found.with_files() if isinstance(found, Selectable) else found
