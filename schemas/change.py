"""The change: one difference between the desired and the running state, and its fields.

Made by the differ, ordered by the planner, applied by `State.apply`, printed by `plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.entity import Entity, EntityKey, Json
from schemas.kinds import written

Action = Literal["add", "update", "remove"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs. `path` joins the keys by dots; lists are compared as a whole.

    A field of an added entity has the `before` null, one of a removed entity the `after`.
    """

    path: str
    before: Json
    after: Json


@dataclass(frozen=True, slots=True)
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
        if not render:
            return {"from": field.before, "to": field.after}
        path = tuple(field.path.split("."))
        return {
            "from": written(self.key.kind, path, field.before),
            "to": written(self.key.kind, path, field.after),
        }
