"""Brings a state that another version of Kakehi wrote into the form of this one.

A version may take keys away or have other defaults, and versions of the digest before the second
had every key in a value. An engine of this version would not take what is in the state directory
then: so it is brought into form when it is read, without the repository, which may be away. A key
that is new is not in it, and stands at its default. Where a key was left out (an older version
stands in for a newer one) what is left is not what the commit says, and is compared with that anew.
Called by `reconciler.storage.store`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.durable import rename_durably
from reconciler.presence import is_there
from reconciler.storage.reading.known import ALL, known_part
from schemas.entities.entity import DIGEST_VERSION, Entity, EntityKey, Json, Mark
from schemas.kinds.registry import MODELS
from schemas.messages import wire

LANGUAGE = f"{DIGEST_VERSION}.{wire.LANGUAGE}"
"""Names the language of this version: another one has other keys, other defaults, another form."""


# What 0.1 wrote. Nobody runs it yet, so it is set aside and built anew from the repository.
_FORMER_FILES = (
    "journal",
    "snapshot",
    "drains.json",
    "followed.json",
    "history.jsonl",
    "history.old",
)


def set_former_aside(directory: Path) -> Iterator[str]:
    """Rename the files of an early version; yield what is to be told of it. Raises `OSError`."""
    for name in _FORMER_FILES:
        found = directory / name
        if is_there(found):
            rename_durably(found, found.with_name(f"{name}.former"))
            yield (
                f"{name} was written by an early version; kept as {name}.former, starting from the "
                "repository"
            )


def completed_all(entities: Iterable[Entity]) -> list[Entity | None]:
    """Return each in the form of this version; None for what it knows nothing of."""
    return [upgraded(entity) for entity in entities]


def left_out(entity: Entity) -> list[str]:
    """Return what this version does not know of an entity's value, by its paths."""
    return _known(entity)[1]


def _known(entity: Entity) -> tuple[dict[str, Json] | None, list[str]]:
    model = MODELS.get(entity.key.kind)
    return (None, [ALL]) if model is None else known_part(model, entity.value)


def unmarked(marks: Mapping[EntityKey, Mark], keys: Container[EntityKey]) -> dict[EntityKey, Mark]:
    """Return what a file defines, with some of it as if it had never been read."""
    return {
        key: mark._replace(fingerprint=b"") if key in keys else mark for key, mark in marks.items()
    }


def upgraded(entity: Entity) -> Entity | None:
    """Return the entity in the form of this version; the same object when it is already."""
    known, _ = _known(entity)
    if known is None:
        return None
    value = MODELS[entity.key.kind].of_value(known).value()
    return entity if value == entity.value else replace(entity, value=value)
