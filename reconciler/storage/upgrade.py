"""Brings a state that another version of Kakehi wrote into the form of this one.

A version may add keys to the language, with defaults, or take some away. What is in the state
directory then lacks them or has too many, and an engine of this version would not take it: so it is
completed when it is read, without the repository, which may be away. Called by
`reconciler.storage.store`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from schemas.base import Model
from schemas.entity import Entity, Json, canonical
from schemas.frontend import OneOf
from schemas.kinds import MODELS, defaults, inner_model

LANGUAGE = hashlib.sha256(
    canonical({kind: [*sorted(MODELS[kind].model_fields), defaults(kind)] for kind in MODELS})
).hexdigest()[:16]
"""Names the language of this version: another one has other keys or other defaults."""


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
