"""The finding: something wrong between entities, before it is known where in a file to show it.

`references` and `matches` make findings from entities alone; the catalog knows the files and turns
each into a diagnostic.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.entities.diagnostic import Severity
from schemas.entities.entity import Entity, EntityKey
from schemas.record import record

Entities = Mapping[EntityKey, Entity]


@record
class Finding:
    """An error or warning about an entity. `path` leads to the value meant; () is its name."""

    severity: Severity
    key: EntityKey
    path: tuple[str | int, ...]
    message: str
    hint: str | None = None


def place(entity: Entity) -> str:
    """Return where an entity was written, as one cites it: `file:line`."""
    return f"{entity.provenance.file}:{entity.provenance.line}"


def later_first(one: Entity, other: Entity) -> tuple[Entity, Entity]:
    """Return two entities, first the one that is written later: the one to complain about."""
    first, second = sorted(
        (one, other), key=lambda entity: (entity.provenance.file, entity.provenance.line)
    )
    return second, first


@record
class Remark:
    """Something about one file that an entity names; `field` is the last step of the field."""

    severity: Severity
    field: str
    message: str
    hint: str | None = None
