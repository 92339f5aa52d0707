"""Brings a state that another version of Kakehi wrote into the form of this one.

A version may add keys to the language, with defaults, or take some away. What is in the state
directory then lacks them or has too many, and an engine of this version would not take it: so it is
completed when it is read, without the repository, which may be away. Called by
`reconciler.storage.store`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from reconciler.presence import is_there
from schemas.base import Model
from schemas.entity import Entity, Json, canonical
from schemas.frontend import OneOf
from schemas.kinds import MODELS, defaults, inner_model

LANGUAGE = hashlib.sha256(
    canonical({kind: [*sorted(MODELS[kind].model_fields), defaults(kind)] for kind in MODELS})
).hexdigest()[:16]
"""Names the language of this version: another one has other keys or other defaults."""


# What 0.1 wrote. Nobody runs it yet, so it is set aside and built anew from the repository.
_FORMER_FILES = ("journal", "snapshot")


def set_former_aside(directory: Path) -> Iterator[str]:
    """Rename the files of an early version; yield what is to be told of it. Raises `OSError`."""
    for name in _FORMER_FILES:
        found = directory / name
        if is_there(found):
            found.rename(found.with_suffix(".former"))
            yield (
                f"{name} was written by an early version; kept as {name}.former, starting from the "
                "repository"
            )


def upgraded(entity: Entity) -> Entity:
    """Return the entity in the form of this version; the same object when it is already.

    Raises `ValueError` when it lacks what no default stands for.
    """
    value = _completed(MODELS[entity.key.kind], entity.value)
    return entity if value == entity.value else replace(entity, value=value)


def _completed(model: type[Model], value: dict[str, Json]) -> dict[str, Json]:
    completed: dict[str, Json] = {}
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        if name not in value:
            if field.is_required():
                raise ValueError(f'"{name}" is missing')
            default = field.get_default(call_default_factory=True, validated_data={})
            completed[name] = default.value() if isinstance(default, Model) else default
        else:
            given = value[name]
            whole = inner is not None and not issubclass(inner, OneOf) and _is_one(field.annotation)
            if whole and isinstance(given, dict):
                assert inner is not None
                given = _completed(inner, given)
            completed[name] = given
    return completed


def _is_one(annotation: object) -> bool:
    """Whether a field is a model itself (or null), and no map of entries that are."""
    return "dict[" not in str(annotation)
