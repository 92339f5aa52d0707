"""Expressions that take more of each worker, all together, than the settings allow: an error.

One by one the engine bounds them; a thousand large ones would still take a worker half a gigabyte,
and ten seconds whenever one is brought up. The sum is kept with the relations, so that a change
costs what it changes. What runs already goes on, and may change and shrink, but not grow. Called
by `reconciler.catalog.catalog`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.relations import View, expressions_of
from reconciler.language.compiled import SMALLER, compiled
from reconciler.language.findings import Finding, place
from schemas.entities.entity import SETTINGS_KEY, Entity, EntityKey
from schemas.kinds.settings import Settings
from schemas.values.units import format_size

_NAMED_MAX = 3
_LIMIT = "max_expression_bytes"


def too_heavy(changed: Iterable[EntityKey], before: View, view: View) -> Iterator[Finding]:
    """Yield an error where a change adds expressions, or takes room away, beyond the bound."""
    touched = [key for key in changed if key == SETTINGS_KEY or any(_written(view.get(key)))]
    if not touched:
        return
    limit, weight = _limit(view), view.weight()
    if weight <= limit or (weight <= before.weight() and limit >= _limit(before)):
        return
    weighed = (
        (compiled(pattern, ignore_case=ignores).weight, key, path)
        for key in touched
        for path, pattern, ignores in _written(view.get(key))
    )
    _, key, path = max(weighed, default=(0, SETTINGS_KEY, (_LIMIT,)))
    where = f"{'.'.join(path)}: " if path else ""
    largest = (
        f"{each} ({place(view[each])}) {size_of(size)}" for size, each in view.heaviest(_NAMED_MAX)
    )
    message = (
        f"{key}: {where}with it all expressions take {size_of(weight)} of each worker when they "
        f"are compiled, and settings.{_LIMIT} allows {format_size(limit)}; the largest: "
        f"{', '.join(largest)}"
    )
    yield Finding("error", key, path, message, f"{SMALLER}; or raise settings.{_LIMIT}")


def _written(entity: Entity | None) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    return iter(()) if entity is None else expressions_of(entity)


def _limit(view: View) -> int:
    found = view.get(SETTINGS_KEY)
    return (found.typed(Settings) if found is not None else Settings()).max_expression_bytes


def size_of(size: int) -> str:
    """As people read it: single bytes of a compiled expression say nothing."""
    mebibytes = size / (1 << 20)
    return f"{mebibytes:.1f}MiB" if mebibytes >= 1 else f"{size / (1 << 10):.1f}KiB"
