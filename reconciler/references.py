"""References between entities, by index: dangling names, clashing addresses, what nothing uses.

The catalog adds and removes entities as they change, and asks for the findings about the changed
keys; what a change does not touch is not looked at. How frontends match is in `matches`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from reconciler.findings import Entities, Finding, later_first, place
from reconciler.suggest import suggest
from schemas.entity import Entity, EntityKey
from schemas.names import split_address

NAMES_SHOWN_MAX = 5
"""So many names are listed for one that is unknown and like none of them."""


class References:
    """Who refers to what. Entities must be added and removed with the same value."""

    def __init__(self) -> None:
        self._users: defaultdict[EntityKey, set[EntityKey]] = defaultdict(set)
        self._weights: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._ports: defaultdict[int, dict[EntityKey, str]] = defaultdict(dict)

    def add(self, entity: Entity) -> None:
        """Take an entity into the index."""
        for target in targets(entity):
            self._users[target].add(entity.key)
        if entity.key.kind == "backend":
            weight = entity.value["weight"]
            assert isinstance(weight, int), "the model checked it"
            self._weights[cluster_of(entity.key)][entity.key.name] = weight
        for address in _addresses(entity):
            self._ports[split_address(address)[1]][entity.key] = address

    def remove(self, entity: Entity) -> None:
        """Take an entity out of the index again."""
        for target in targets(entity):
            _discard(self._users, target, entity.key)
        if entity.key.kind == "backend":
            cluster = cluster_of(entity.key)
            self._weights[cluster].pop(entity.key.name, None)
            if not self._weights[cluster]:
                del self._weights[cluster]
        for address in _addresses(entity):
            port = split_address(address)[1]
            self._ports[port].pop(entity.key, None)
            if not self._ports[port]:
                del self._ports[port]

    def users(self, key: EntityKey) -> set[EntityKey]:
        """Return what refers to an entity."""
        return self._users.get(key, set())

    def dangling(
        self, changed: Iterable[EntityKey], entities: Entities, declared: set[EntityKey]
    ) -> Iterator[Finding]:
        """Yield references to what does not exist.

        `declared` are entities that are there and invalid: their own error is enough.
        """
        suspects: set[EntityKey] = set()
        for key in changed:
            suspects |= {key} if key in entities else self._users.get(key, set())
        for key in sorted(suspects):
            for target in targets(entities[key]):
                if target not in entities and target not in declared:
                    yield _dangling(key, target, entities)

    def clashes(self, changed: Iterable[EntityKey], entities: Entities) -> Iterator[Finding]:
        """Yield addresses on which two would listen."""
        seen: set[frozenset[EntityKey]] = set()
        for key in changed:
            entity = entities.get(key)
            for address in _addresses(entity) if entity else ():
                port = split_address(address)[1]
                for other, other_address in self._ports[port].items():
                    pair = frozenset((key, other))
                    if len(pair) == 2 and pair not in seen and _overlap(address, other_address):
                        seen.add(pair)
                        yield _clash(key, other, entities)

    def without_backends(
        self, changed: Iterable[EntityKey], entities: Entities
    ) -> Iterator[Finding]:
        """Yield warnings about clusters that can serve nothing."""
        clusters = {
            EntityKey("cluster", cluster_of(key))
            for key in changed
            if key.kind in ("cluster", "backend")
        }
        for key in sorted(clusters):
            if key not in entities:
                continue
            weights = self._weights.get(key.name, {}).values()
            if not weights:
                yield Finding("warning", key, (), f"{key} has no backends: its frontends get 503")
            elif not any(weights):
                message = f"every backend of {key} has the weight 0: its frontends get 503"
                yield Finding("warning", key, (), message)

    def unused(
        self, changed: Iterable[EntityKey], before: Iterable[Entity], entities: Entities
    ) -> Iterator[Finding]:
        """Yield warnings about clusters and listeners that no frontend names.

        `before` are the changed entities as they were: what they named may be unused now.
        """
        suspects = {key for key in changed if key.kind in ("cluster", "listener")}
        for entity in before:
            suspects.update(targets(entity))
        for key in sorted(suspects):
            if key in entities and key not in self._users:
                gets = ": every request gets 404" if key.kind == "listener" else ""
                yield Finding("warning", key, (), f"no frontend names {key}{gets}")


def targets(entity: Entity) -> tuple[EntityKey, ...]:
    """Return what an entity refers to."""
    if entity.key.kind == "listener":
        tls = entity.value["tls"]
        default = tls["default_certificate"] if isinstance(tls, dict) else None
        return (EntityKey("certificate", str(default)),) if default else ()
    if entity.key.kind != "frontend":
        return ()
    listeners = entity.value["listeners"]
    assert isinstance(listeners, list), "the model checked it"
    named = [EntityKey("listener", str(name)) for name in listeners]
    return (EntityKey("cluster", str(entity.value["cluster"])), *named)


def cluster_of(key: EntityKey) -> str:
    """Return the cluster's name in the key of a cluster or of a backend."""
    return key.name.partition("/")[0]


def _addresses(entity: Entity) -> tuple[str, ...]:
    """Return the addresses on which an entity makes us listen."""
    name = {"listener": "address", "settings": "admin"}.get(entity.key.kind)
    address = entity.value[name] if name else None
    return (address,) if isinstance(address, str) else ()


def _overlap(one: str, other: str) -> bool:
    # "[::]" is bound for IPv6 alone, so that the two families never meet.
    ip, other_ip = split_address(one)[0], split_address(other)[0]
    wildcard = ip.is_unspecified or other_ip.is_unspecified
    return ip.version == other_ip.version and (wildcard or ip == other_ip)


def _dangling(key: EntityKey, target: EntityKey, entities: Entities) -> Finding:
    names = sorted(known.name for known in entities if known.kind == target.kind)
    close = suggest(target.name, names)
    hint = f"define it under {target.kind}s:, in any file"
    if close is not None:
        there = place(entities[EntityKey(target.kind, close)])
        hint = f'did you mean "{close}" ({there})?'
    elif names:
        more = ", …" if len(names) > NAMES_SHOWN_MAX else ""
        hint = f"known: {', '.join(names[:NAMES_SHOWN_MAX])}{more}"
    path = {
        "listener": ("listeners", target.name),
        "certificate": ("tls", "default_certificate"),
    }.get(target.kind, (target.kind,))
    return Finding("error", key, path, f"{key}: there is no {target}", hint)


def _clash(one: EntityKey, other: EntityKey, entities: Entities) -> Finding:
    later, first = later_first(entities[one], entities[other])
    (address,), (taken,) = _addresses(later), _addresses(first)
    name = "admin" if later.key.kind == "settings" else "address"
    taken_by = f"{first.key} ({place(first)})"
    message = f"{later.key}: {address} is taken by {taken_by}"
    if address != taken:
        message += f", which listens on {taken}"
    return Finding("error", later.key, (name,), message, "choose another port or IP address")


def _discard(
    index: defaultdict[EntityKey, set[EntityKey]], key: EntityKey, value: EntityKey
) -> None:
    index[key].discard(value)
    if not index[key]:
        del index[key]
