"""Frontends with the same match: an error, since no order says which would win.

The order is the hostname, then the path (exact, then the longer literal beginning, at equal length
a regex before a prefix), then method, headers, query. Called by `reconciler.catalog.catalog`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.relations import MATCH, MatchSlot, View, slots
from reconciler.language.findings import Finding, later_first, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend


def conflicts(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield pairs of frontends with the same match."""
    seen: set[frozenset[EntityKey]] = set()
    for key in changed:
        for slot in slots(view.get(key)):
            for other in sorted(view.related(MATCH, slot.term)):
                pair = frozenset((key, other))
                if len(pair) == 2 and pair not in seen and slot in slots(view[other]):
                    seen.add(pair)
                    yield from _conflict(slot, view[key], view[other])


def _conflict(slot: MatchSlot, one: Entity, other: Entity) -> Iterator[Finding]:
    methods, other_methods = (set(each.typed(Frontend).methods) for each in (one, other))
    # A method is more specific than none, so that only the same ones are in each other's way.
    common = sorted(methods & other_methods)
    if not common and (methods or other_methods):
        return
    later, first = later_first(one, other)
    what = f'{slot.path_kind} "{slot.path}"'
    if common:
        what = f"{', '.join(common)} {what}"
    hostname = "any hostname" if slot.hostname == "*" else slot.hostname
    message = (
        f"{later.key} matches the same requests as {first.key} ({place(first)}): "
        f'{what} of {hostname} on listener "{slot.listener}"'
    )
    hint = "make one of them more specific, or remove it"
    yield Finding("error", later.key, (), message, hint)
