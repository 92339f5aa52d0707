"""How frontends match: two with the same match, and those that another one hides.

Gateway API's order holds: hostname, then exact path, longest prefix, regex, then method, headers,
query. Two equal matches are an error, since no order says which would win. A frontend that can
never win is a warning: it is harmless, and hardly what was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.relations import MATCH, REGEX, MatchSlot, View, slots, term
from reconciler.language.findings import Finding, later_first, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.values.regex import literal_prefix


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


def hidden(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about frontends that can never win."""
    suspects: set[EntityKey] = set()
    for key in changed:
        frontend = view.get(key)
        for slot in slots(frontend):
            if slot.path_kind == "regex":
                suspects.add(key)
            elif frontend is not None and _unconditional(frontend, slot):
                suspects.update(view.related(REGEX, term(slot.listener, slot.hostname)))
    for key in sorted(suspects):
        hiding = [_hidden_by(slot, key, view) for slot in slots(view[key])]
        first = hiding[0]
        if first is not None and None not in hiding:
            winner = view[first]
            path = next(slots(winner)).path
            message = f"{key} never gets a request: {first} ({place(winner)}) takes all under "
            message += f'"{path}", and a prefix goes before a regex'
            yield Finding("warning", key, ("path",), message, "write it as prefix or exact")


def _hidden_by(slot: MatchSlot, key: EntityKey, view: View) -> EntityKey | None:
    """Return the frontend that takes everything a regex could match on one listener."""
    known = literal_prefix(slot.path)
    # Only whole elements count: what is known of "/item[0-9]" is "/", of "/item/[0-9]" "/item".
    # Whatever a regex matches is under "/".
    parts = known.split("/")[:-1] or [""]
    for length in range(len(parts), 0, -1):
        prefix = "/".join(parts[:length]) or "/"
        there = view.related(MATCH, MatchSlot(slot.listener, slot.hostname, "prefix", prefix).term)
        winners = [other for other, methods in there.items() if not methods and other != key]
        if winners:
            return min(winners)
    return None


def _unconditional(frontend: Entity, slot: MatchSlot) -> bool:
    """Whether a frontend asks for nothing but its prefix: nothing under it gets past it."""
    asked = frontend.typed(Frontend)
    asks_more = asked.methods or asked.headers or asked.query
    return slot.path_kind == "prefix" and not asks_more


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
