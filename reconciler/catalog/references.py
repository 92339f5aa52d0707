"""References between entities, by index: dangling names, clashing addresses, what nothing uses.

The catalog adds and removes entities as they change, and asks for the findings about the changed
keys; what a change does not touch is not looked at. How frontends match is in `matches`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.language.findings import Entities, Finding, later_first, place
from reconciler.language.suggest import suggest
from schemas.entity import Entity, EntityKey
from schemas.names import is_name, split_address

NAMES_SHOWN_MAX = 5
"""So many names are listed for one that is unknown and like none of them."""


@dataclass(slots=True)
class Written:
    """What entities that are invalid for another reason refer to, as far as it can be read."""

    named: dict[EntityKey, tuple[EntityKey, ...]] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)
    """The kinds of which nobody knows what is referred to."""

    def add(self, key: EntityKey, value: Mapping[str, Any]) -> None:
        """Take in an entity's value as it is written."""
        found: list[EntityKey] = []
        for kind, names in _names_written(key.kind, value):
            found += [EntityKey(kind, name) for name in names if is_name(name)]
            if not all(map(is_name, names)):
                self.unclear.add(kind)
        self.named[key] = tuple(found)

    def may_name(self, target: EntityKey) -> bool:
        """Say whether one of them names an entity, or might once it is mended."""
        return target.kind in self.unclear or any(target in named for named in self.named.values())


class References:
    """Who refers to what. Entities must be added and removed with the same value."""

    def __init__(self) -> None:
        self._users: defaultdict[EntityKey, set[EntityKey]] = defaultdict(set)
        self._weights: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._ports: defaultdict[int, dict[EntityKey, str]] = defaultdict(dict)
        self._dialled: defaultdict[int, dict[EntityKey, str]] = defaultdict(dict)

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
        for address in _dialled(entity):
            self._dialled[split_address(address)[1]][entity.key] = address

    def remove(self, entity: Entity) -> None:
        """Take an entity out of the index again."""
        for target in targets(entity):
            _discard(self._users, target, entity.key)
        if entity.key.kind == "backend":
            cluster = cluster_of(entity.key)
            self._weights[cluster].pop(entity.key.name, None)
            if not self._weights[cluster]:
                del self._weights[cluster]
        for ports, addresses in (
            (self._ports, _addresses(entity)),
            (self._dialled, _dialled(entity)),
        ):
            for address in addresses:
                port = split_address(address)[1]
                ports[port].pop(entity.key, None)
                if not ports[port]:
                    del ports[port]

    def users(self, key: EntityKey) -> set[EntityKey]:
        """Return what refers to an entity."""
        return self._users.get(key, set())

    def dangling(
        self,
        changed: Iterable[EntityKey],
        entities: Entities,
        declared: set[EntityKey],
        written: Written,
    ) -> Iterator[Finding]:
        """Yield references to what does not exist, those of invalid entities too.

        `declared` are entities that are there and invalid: their own error is enough.
        """
        for key, named in sorted(written.named.items()):
            for target in named:
                if target not in entities and target not in declared:
                    written.unclear.add(target.kind)
                    yield _dangling(key, target, entities)
        suspects: set[EntityKey] = set()
        for key in changed:
            suspects |= {key} if key in entities else self._users.get(key, set())
        for key in sorted(suspects):
            for target in targets(entities[key]):
                if target not in entities and target not in declared:
                    # What it should say instead is a name that nobody seems to use.
                    written.unclear.add(target.kind)
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

    def loops(self, changed: Iterable[EntityKey], entities: Entities) -> Iterator[Finding]:
        """Yield warnings about backends that are listeners of ours."""
        pairs: set[tuple[EntityKey, EntityKey]] = set()
        for key in changed:
            entity = entities.get(key)
            if entity is None or key.kind not in ("backend", "listener"):
                continue
            port = split_address(str(entity.value["address"]))[1]
            backends = self._dialled.get(port, {}) if key.kind == "listener" else (key,)
            listeners = self._ports.get(port, {}) if key.kind == "backend" else (key,)
            pairs.update(
                (backend, listener)
                for backend in backends
                for listener in listeners
                if listener.kind == "listener"
            )
        for backend, listener in sorted(pairs):
            address = str(entities[backend].value["address"])
            if _leads_to(address, str(entities[listener].value["address"])):
                message = f"{backend}: {address} is {listener} of this proxy"
                message += f" ({place(entities[listener])}): requests may go round in circles"
                yield Finding("warning", backend, ("address",), message)

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
        self,
        changed: Iterable[EntityKey],
        before: Iterable[Entity],
        entities: Entities,
        written: Written,
    ) -> Iterator[Finding]:
        """Yield warnings about clusters and listeners that no frontend names, not even a wrong one.

        `before` are the changed entities as they were: what they named may be unused now.
        """
        suspects = {key for key in changed if key.kind in ("cluster", "listener")}
        for entity in before:
            suspects.update(targets(entity))
        for key in sorted(suspects):
            if key in entities and key not in self._users and not written.may_name(key):
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


def _names_written(kind: str, value: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the kinds that an entity refers to, each with the names as they are written."""
    if kind == "listener":
        tls = value.get("tls")
        default = tls.get("default_certificate") if isinstance(tls, dict) else None
        yield "certificate", [default] if default is not None else []
    elif kind == "frontend":
        yield "cluster", [value.get("cluster")]
        listeners = value.get("listeners")
        yield "listener", (isinstance(listeners, list) and listeners) or [None]


def cluster_of(key: EntityKey) -> str:
    """Return the cluster's name in the key of a cluster or of a backend."""
    return key.name.partition("/")[0]


def _addresses(entity: Entity) -> tuple[str, ...]:
    """Return the addresses on which an entity makes us listen."""
    name = {"listener": "address", "settings": "admin"}.get(entity.key.kind)
    address = entity.value[name] if name else None
    return (address,) if isinstance(address, str) else ()


def _dialled(entity: Entity) -> tuple[str, ...]:
    """Return the addresses to which an entity makes us connect."""
    return (str(entity.value["address"]),) if entity.key.kind == "backend" else ()


def _leads_to(address: str, listener: str) -> bool:
    """Say whether who connects to an address surely comes to a listener with the same port."""
    ip, listening = split_address(address)[0], split_address(listener)[0]
    if ip.version != listening.version:
        return False
    # Which other addresses this machine has is not known here.
    ours = ip.is_loopback or ip.is_unspecified
    return (
        ip == listening
        or (listening.is_unspecified and ours)
        or (ip.is_unspecified and listening.is_loopback)
    )


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
