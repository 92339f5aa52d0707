"""Brings a state that another version of Kakehi wrote into the form of this one.

A version may add keys to the language, with defaults, or take some away. What is in the state
directory then lacks them or has too many, and an engine of this version would not take it: so it is
completed when it is read, without the repository, which may be away. Called by
`reconciler.storage.store`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from reconciler.durable import rename_durably
from reconciler.errors import MachineError
from reconciler.presence import is_there
from schemas.base import Model
from schemas.entity import Entity, Json
from schemas.frontend import OneOf
from schemas.jsonschema import language
from schemas.kinds import MODELS, inner_model

LANGUAGE = language()
"""Names the language of this version: another one has other keys or other defaults."""


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


def completed_all(entities: Iterable[Entity], directory: Path) -> list[Entity]:
    """Return each in the form of this version. Raises `MachineError`."""
    try:
        return [upgraded(entity) for entity in entities]
    except (KeyError, ValueError) as error:
        raise MachineError(
            f"the state in {directory} is of another version, and cannot be completed: {error}; "
            "move the directory away to start from the repository"
        ) from error


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
            if inner is not None and not issubclass(inner, OneOf):
                given = _completed_within(inner, given, entries="dict[" in str(field.annotation))
            completed[name] = given
    return completed


def _completed_within(model: type[Model], given: Json, *, entries: bool) -> Json:
    """What a field holds that is a model (or null), or with `entries` a map of models by name."""
    if not isinstance(given, dict):
        return given
    if not entries:
        return _completed(model, given)
    return {
        name: _completed(model, each) if isinstance(each, dict) else each
        for name, each in given.items()
    }
