"""How frontends match, by index: two with the same match, and those that another one hides.

Gateway API's order holds: hostname, then exact path, longest prefix, regex, then method, headers,
query. Two equal matches are an error, since no order says which would win. A frontend that can
never win is a warning: it is harmless, and hardly what was meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reconciler.language.findings import Entities, Finding, later_first, place
from schemas.entity import Entity, EntityKey, canonical
from schemas.regex import literal_prefix


class _Slot(NamedTuple):
    """All of a match but its methods, on one listener: who shares a slot may be in conflict."""

    listener: str
    hostname: str
    path_kind: str
    path: str
    headers: bytes
    query: bytes


@dataclass(slots=True)
class _Host:
    """The frontends of one hostname on one listener, as far as one can hide another."""

    prefixes: defaultdict[str, set[EntityKey]] = field(default_factory=lambda: defaultdict(set))
    """Prefix → frontends that ask for nothing but it. Nothing under it gets past them."""
    regexes: dict[EntityKey, str] = field(default_factory=dict)


class Matches:
    """The index of frontends. They must be added and removed with the same value."""

    def __init__(self) -> None:
        self._slots: defaultdict[_Slot, set[EntityKey]] = defaultdict(set)
        self._hosts: defaultdict[tuple[str, str], _Host] = defaultdict(_Host)

    def add(self, entity: Entity) -> None:
        """Take an entity into the index; only frontends matter."""
        for slot in _slots(entity):
            self._slots[slot].add(entity.key)
            host = self._hosts[slot.listener, slot.hostname]
            if slot.path_kind == "regex":
                host.regexes[entity.key] = slot.path
            elif _unconditional(entity, slot):
                host.prefixes[slot.path].add(entity.key)

    def remove(self, entity: Entity) -> None:
        """Take an entity out of the index again."""
        for slot in _slots(entity):
            self._slots[slot].discard(entity.key)
            if not self._slots[slot]:
                del self._slots[slot]
            host = self._hosts[slot.listener, slot.hostname]
            host.regexes.pop(entity.key, None)
            if _unconditional(entity, slot):
                host.prefixes[slot.path].discard(entity.key)
                if not host.prefixes[slot.path]:
                    del host.prefixes[slot.path]
            if not host.prefixes and not host.regexes:
                del self._hosts[slot.listener, slot.hostname]

    def conflicts(self, changed: Iterable[EntityKey], entities: Entities) -> Iterator[Finding]:
        """Yield pairs of frontends with the same match."""
        seen: set[frozenset[EntityKey]] = set()
        for key in changed:
            for slot in _slots(entities.get(key)):
                for other in sorted(self._slots[slot]):
                    pair = frozenset((key, other))
                    if len(pair) == 2 and pair not in seen:
                        seen.add(pair)
                        yield from _conflict(slot, entities[key], entities[other])

    def hidden(self, changed: Iterable[EntityKey], entities: Entities) -> Iterator[Finding]:
        """Yield warnings about frontends that can never win."""
        suspects: set[EntityKey] = set()
        for key in changed:
            for slot in _slots(entities.get(key)):
                host = self._hosts.get((slot.listener, slot.hostname), _Host())
                suspects.update({key} & host.regexes.keys())
                if key in host.prefixes.get(slot.path, ()):
                    suspects.update(host.regexes)
        for key in sorted(suspects):
            hiding = [self._hidden_by(slot, key) for slot in _slots(entities[key])]
            first = hiding[0]
            if first is not None and None not in hiding:
                winner = entities[first]
                path = next(iter(_map(winner.value["path"]).values()))
                message = f"{key} never gets a request: {first} ({place(winner)}) takes all under "
                message += f'"{path}", and a prefix goes before a regex'
                yield Finding("warning", key, ("path",), message, "write it as prefix or exact")

    def _hidden_by(self, slot: _Slot, key: EntityKey) -> EntityKey | None:
        """Return the frontend that takes everything a regex could match on one listener."""
        host = self._hosts[slot.listener, slot.hostname]
        known = literal_prefix(slot.path)
        # Only whole elements count: what is known of "/item[0-9]" is "/", of "/item/[0-9]" "/item".
        # Whatever a regex matches is under "/".
        parts = known.split("/")[:-1] or [""]
        for length in range(len(parts), 0, -1):
            prefix = "/".join(parts[:length]) or "/"
            winners = host.prefixes.get(prefix, set()) - {key}
            if winners:
                return min(winners)
        return None


def _slots(entity: Entity | None) -> Iterator[_Slot]:
    if entity is None or entity.key.kind != "frontend":
        return
    value = entity.value
    ((path_kind, path),) = _map(value["path"]).items()
    headers, query = canonical(value["headers"]), canonical(value["query"])
    listeners = value["listeners"]
    assert isinstance(listeners, list), "the model checked it"
    for listener in listeners:
        hostname = str(value["hostname"])
        yield _Slot(str(listener), hostname, path_kind, str(path), headers, query)


def _unconditional(entity: Entity, slot: _Slot) -> bool:
    value = entity.value
    asks_more = value["methods"] or value["headers"] or value["query"]
    return slot.path_kind == "prefix" and not asks_more


def _conflict(slot: _Slot, one: Entity, other: Entity) -> Iterator[Finding]:
    methods, other_methods = _methods(one), _methods(other)
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


def _methods(entity: Entity) -> set[str]:
    methods = entity.value["methods"]
    assert isinstance(methods, list), "the model checked it"
    return {str(method) for method in methods}


def _map(value: Any) -> dict[str, Any]:
    assert isinstance(value, dict), "the model checked it"
    return value
