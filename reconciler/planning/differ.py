"""The differ: desired entities × running state → changes, field by field.

It compares values with all their defaults, as people read them. deepdiff sees the changed entities
only, and of these the maps that differ, since it costs as much for what is equal as for what is
not. All of them go in one call, which shares its fixed cost. Called by the daemon and by `plan`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from schemas.changes.change import Change, FieldChange, Missing
from schemas.entities.entity import Entity, EntityKey, Json
from schemas.entities.secrecy import without_secrets
from schemas.kinds.registry import by_name, defaults, full

# deepdiff imports these where the environment has them, for values that ours never are: most of
# what loading it takes, in every daemon and every `plan`.
_FOREIGN = ("numpy", "pandas", "polars")

_SIDES: tuple[Missing, Missing] = ("from", "to")
_ABSENT = object()


class RunningEntities(Protocol):
    """What is compared against: a State, or any map of entities."""

    def get(self, key: EntityKey, /) -> Entity | None:
        """Return the running entity, or None."""


def diff_entities(
    desired: Mapping[EntityKey, Entity | None], running: RunningEntities
) -> tuple[Change, ...]:
    """Return what is to be done so that the running entities become the desired ones, by key."""
    changes: list[Change] = []
    updates: list[tuple[Entity, Entity]] = []
    for key in sorted(desired):
        after, before = desired[key], running.get(key)
        if after is None and before is not None:
            changes.append(Change("remove", key, before, None, _listed(before, added=False)))
        elif after is not None and before is None:
            changes.append(Change("add", key, None, after, _listed(after, added=True)))
        elif after is not None and before is not None and after.value != before.value:
            updates.append((before, after))
    fields = _differing_fields(updates) if updates else []
    for (before, after), changed in zip(updates, fields, strict=True):
        changes.append(Change("update", after.key, before, after, changed))
    return tuple(sorted(changes, key=lambda change: change.key))


def _listed(entity: Entity, *, added: bool) -> tuple[FieldChange, ...]:
    """List what an entity has besides the defaults: what somebody wrote."""
    usual = defaults(entity.key.kind)
    value = full(entity)
    if _has_several(value):
        value = by_name(entity)
    fields = _leaves(entity.key.kind, value, usual, ())
    return tuple(
        FieldChange(path, None, value) if added else FieldChange(path, value, None)
        for path, value in fields
    )


def _leaves(
    kind: str, value: dict[str, Json], usual: dict[str, Json], path: tuple[str, ...]
) -> Iterator[tuple[str, Json]]:
    for name, item in value.items():
        if name in usual and usual[name] == item:
            continue
        inner = usual.get(name)
        if isinstance(item, dict) and item and not _switches_off(item, inner):
            usual_items = inner if isinstance(inner, dict) else {}
            yield from _leaves(kind, item, usual_items, (*path, name))
        else:
            yield ".".join((*path, name)), without_secrets(kind, item, (*path, name))


def _switches_off(item: dict[str, Json], usual: Json) -> bool:
    """Tell whether a map of entries by name has one that is null, which would look like none."""
    known = usual if isinstance(usual, dict) else {}
    return any(each is None and name not in known for name, each in item.items())


def load() -> None:
    """Import what compares: most commands never do, and a daemon does it when it is idle."""
    if "deepdiff" in sys.modules:
        return
    absent = [name for name in _FOREIGN if name not in sys.modules]
    try:
        # None is how Python is told that there is no such module.
        sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
        import deepdiff  # noqa: F401, PLC0415
    finally:
        for name in absent:
            del sys.modules[name]


def _differing_fields(pairs: list[tuple[Entity, Entity]]) -> list[tuple[FieldChange, ...]]:
    before: dict[int, dict[str, Json]] = {}
    after: dict[int, dict[str, Json]] = {}
    values = [comparable(old, new) for old, new in pairs]
    paths: list[set[tuple[str, ...]]] = [set() for _ in pairs]
    for index, (old, new) in enumerate(values):
        for name in old:
            if old[name] == new[name]:
                continue
            if isinstance(old[name], dict) and isinstance(new[name], dict):
                before.setdefault(index, {})[name] = old[name]
                after.setdefault(index, {})[name] = new[name]
            else:
                # There is nothing in it by which it could be told apart.
                paths[index].add((name,))
    if before:
        _note_inner(before, after, paths)
    for index, (old_entity, new_entity) in enumerate(pairs):
        if not paths[index]:
            # By their names limits are the same: they stand in another order.
            old, new = values[index] = full(old_entity), full(new_entity)
            paths[index].update((name,) for name in new if new[name] != old.get(name))
    return [
        tuple(_field_change(entity.key.kind, path, old, new) for path in sorted(changed))
        for changed, (entity, _), (old, new) in zip(paths, pairs, values, strict=True)
    ]


def comparable(old: Entity, new: Entity) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return two values, with limits by name where either side has several."""
    before, after = full(old), full(new)
    if _has_several(before) or _has_several(after):
        before, after = by_name(old), by_name(new)
    return before, after


def _has_several(value: dict[str, Json]) -> bool:
    return isinstance(value.get("rate_limit"), list)


def _note_inner(
    before: dict[int, dict[str, Json]],
    after: dict[int, dict[str, Json]],
    paths: list[set[tuple[str, ...]]],
) -> None:
    """Add where maps differ that are in the place of each other."""
    load()
    from deepdiff import DeepDiff  # noqa: PLC0415

    # The two settings: names that begin with "__" count, and an entity of which little is alike
    # is still compared field by field.
    found = DeepDiff(
        before, after, ignore_private_variables=False, threshold_to_diff_deeper=0, view="tree"
    )
    for levels in found.values():
        for level in levels:
            index, *steps = level.path(output_format="list")
            paths[index].add(_field_path(steps))


def _field_path(steps: list[Any]) -> tuple[str, ...]:
    """Cut a path at the first list: lists are shown as a whole, as one reads them."""
    names: list[str] = []
    for step in steps:
        if not isinstance(step, str):
            break
        names.append(step)
    return tuple(names)


def _field_change(
    kind: str, path: tuple[str, ...], before: dict[str, Json], after: dict[str, Json]
) -> FieldChange:
    sides = _at(before, path), _at(after, path)
    # A plan is read by more people than the secrets in it.
    old, new = (
        None if side is _ABSENT else without_secrets(kind, cast("Json", side), path)
        for side in sides
    )
    missing = next(
        (name for name, side in zip(_SIDES, sides, strict=True) if side is _ABSENT), None
    )
    return FieldChange(".".join(path), old, new, missing)


def _at(value: Json, path: tuple[str, ...]) -> object:
    found: object = value
    for name in path:
        found = found.get(name, _ABSENT) if isinstance(found, dict) else _ABSENT
    return found
