"""The table of kinds: which model a kind has, where its entities stand in YAML, how values print.

Whoever goes over all kinds (validator, plan, reference) asks here, and so a new kind is one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from schemas.base import Kind, Model
from schemas.entities.entity import Entity, Json
from schemas.entities.material import File
from schemas.kinds.backend import Backend
from schemas.kinds.certificate import Certificate
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.policy import Policy
from schemas.kinds.settings import Settings
from schemas.policies.effects import ADD_UP, Effects
from schemas.policies.rate import each_of
from schemas.values.units import Measured, Unit

MODELS: dict[str, type[Kind]] = {
    model.KIND: model
    for model in (Settings, Certificate, Policy, Listener, Cluster, Backend, Frontend)
}

SECTIONS: dict[str, str] = {
    "listeners": "listener",
    "clusters": "cluster",
    "frontends": "frontend",
    "policies": "policy",
    "certificates": "certificate",
    "settings": "settings",
}
"""The top-level maps of a file: section → kind. Backends stand within their cluster."""


def section_of(kind: str) -> str:
    """Return the map in which a kind stands; that of backends is within their cluster."""
    return next((section for section, of in SECTIONS.items() if of == kind), f"{kind}s")


@cache
def measured_fields(kind: str) -> dict[tuple[str, ...], Measured]:
    """Return the fields of a kind that are durations, sizes or shares, by path."""
    return dict(_measured(MODELS[kind]))


@cache
def defaults(kind: str) -> dict[str, Json]:
    """Return the default value of every field that has one."""
    return defaults_of(MODELS[kind])


def defaults_of(model: type[Model]) -> dict[str, Json]:
    """Return the same of a model."""
    return model.model_construct().in_full()


def full(entity: Entity) -> dict[str, Json]:
    """Return the value of an entity with every default, as people read it."""
    return entity.typed(MODELS[entity.key.kind]).in_full()


def readable(entity: Entity) -> dict[str, Json]:
    """Return the same without what may not be written: of what adds up, that nothing is said."""
    value = full(entity)
    for path in ADD_UP if issubclass(MODELS[entity.key.kind], Effects) else ():
        *above, key = path.split(".")
        found: Any = value
        for name in above:
            found = found[name]
        if found[key] is None:
            del found[key]
    return value


def by_name(entity: Entity) -> dict[str, Json]:
    """Return the same, with its limits by what they are called, as a plan tells of several."""
    value = full(entity)
    limits = each_of(getattr(entity.typed(MODELS[entity.key.kind]), "rate_limit", None))
    if limits:
        value["rate_limit"] = {limit.called(): limit.in_full() for limit in limits}
    return value


def written(kind: str, path: tuple[str, ...], value: Json) -> Json:
    """Return a value at a path as it is written in YAML: `30s` for 30000."""
    if isinstance(value, dict):
        return {key: written(kind, (*path, key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [written(kind, path, item) for item in value]
    fields = measured_fields(kind)
    # In between there may be the name of an entry, which leads no deeper.
    measured = fields.get(path) or fields.get((*path[:1], *path[-1:]))
    if measured is not None and isinstance(value, int):
        return measured.format(value)
    return value


def units(kind: str, value: dict[str, Json]) -> dict[str, str]:
    """Return the units of the measured numbers in a value, by dotted path."""
    return {
        place: _COUNTED[measured.unit]
        for path, measured in measured_fields(kind).items()
        for place, inner in _at(value, path, "")
        if isinstance(inner, int)
    }


def _at(value: Json, path: tuple[str, ...], place: str) -> Iterator[tuple[str, Json]]:
    """Yield what stands at a path, in each map of a list, with its place."""
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _at(each, path, f"{place}.{number}")
    elif not path:
        yield place, value
    elif isinstance(value, dict) and path[0] in value:
        step = path[0]
        yield from _at(value[step], path[1:], f"{place}.{step}" if place else step)


_COUNTED: dict[Unit, str] = {"duration": "ms", "size": "bytes", "share": "percent"}
"""In what amounts are counted in the state."""


def field_at(kind: str, loc: tuple[int | str, ...]) -> FieldInfo | None:
    """Return the field at the end of a path through the values of a kind, or None."""
    return fields_at(kind, loc[:-1]).get(str(loc[-1])) if loc else None


def fields_at(kind: str, loc: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """Return the fields of the map at a path. Names of entries and indexes do not lead deeper."""
    model: type[Model] = MODELS[kind]
    for step in loc:
        field = model.model_fields.get(str(step))
        if field is not None:
            model = inner_model(field) or model
    return dict(model.model_fields)


def parts(field: FieldInfo) -> list[Any]:
    """Return all that a field's type is made of: types, validators, bounds, marks."""
    return [*field.metadata, *_parts(field.annotation)]


def inner_model(field: FieldInfo) -> type[Model] | None:
    """Return the model of a field that is a map of fields, or of entries of such a map."""
    for part in parts(field):
        if isinstance(part, type) and issubclass(part, Model):
            return part
    return None


def is_text(field: FieldInfo) -> bool:
    """Say whether a field is written as a text."""
    types = [part for part in parts(field) if isinstance(part, type)]
    return any(issubclass(each, str | File) for each in types)


def measure(field: FieldInfo) -> Measured | None:
    """Return the unit of a field that is a duration, a size or a share."""
    return next((part for part in parts(field) if isinstance(part, Measured)), None)


def _measured(model: type[Model]) -> Iterator[tuple[tuple[str, ...], Measured]]:
    for name, field in model.model_fields.items():
        measured, inner = measure(field), inner_model(field)
        if measured is not None:
            yield (name,), measured
        elif inner is not None:
            yield from (((name, *path), mark) for path, mark in _measured(inner))


def _parts(annotation: Any) -> Iterator[Any]:
    # `Annotated[int, Measured(...)] | None` and `dict[str, Model]` hold what counts inside.
    if get_origin(annotation) in (Annotated, Union, UnionType, dict, list):
        for argument in get_args(annotation):
            yield from _parts(argument)
    else:
        yield annotation
