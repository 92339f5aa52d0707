"""Frontends that pass TLS on unread, by index: what they need around them, and what they hide.

A connection that is passed on is decided by its server name alone, so such a frontend needs
listeners that take TLS and a cluster whose backends get bytes as they came; and it takes everything
of its hostname away from others on the same listener. Called by the catalog, as `references` and
`matches` are. Only what a change touches is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from reconciler.catalog.coverage import is_secure
from reconciler.catalog.references import References
from reconciler.language.findings import Entities, Finding, place
from schemas.entity import Entity, EntityKey


class Passthroughs:
    """The index. Entities must be added and removed with the same value."""

    def __init__(self) -> None:
        self._passed: set[EntityKey] = set()
        self._hosts: defaultdict[tuple[str, str], set[EntityKey]] = defaultdict(set)
        """(listener, hostname) → all frontends there, in either way."""

    def add(self, entity: Entity) -> None:
        """Take an entity into the index; only frontends matter."""
        for place_ in _places(entity):
            self._hosts[place_].add(entity.key)
        if is_passthrough(entity):
            self._passed.add(entity.key)

    def remove(self, entity: Entity) -> None:
        """Take an entity out of the index again."""
        for place_ in _places(entity):
            self._hosts[place_].discard(entity.key)
            if not self._hosts[place_]:
                del self._hosts[place_]
        self._passed.discard(entity.key)

    def misplaced(
        self, changed: Iterable[EntityKey], entities: Entities, references: References
    ) -> Iterator[Finding]:
        """Yield errors about those whose listeners or cluster are not made for it."""
        suspects: set[EntityKey] = set()
        for key in changed:
            if key.kind == "frontend":
                suspects |= {key} & self._passed
            elif key.kind in ("listener", "cluster"):
                suspects |= references.users(key) & self._passed
        for key in sorted(suspects):
            yield from _check(entities[key], entities)

    def hidden(self, changed: Iterable[EntityKey], entities: Entities) -> Iterator[Finding]:
        """Yield warnings about frontends that nobody reaches over TLS, since it is passed on."""
        seen: set[tuple[str, str]] = set()
        for key in changed:
            if key.kind == "frontend" and key in entities:
                seen.update(_places(entities[key]))
        for listener, hostname in sorted(seen) if self._passed else ():
            there = self._hosts[listener, hostname]
            passing = sorted(there & self._passed)
            if not passing:
                continue
            winner = entities[passing[0]]
            for key in sorted(there - self._passed):
                message = (
                    f'{key} never gets a request on listener "{listener}": {winner.key} '
                    f"({place(winner)}) passes TLS for {hostname} on"
                )
                yield Finding("warning", key, ("listeners",), message)


def is_passthrough(entity: Entity) -> bool:
    """Tell whether an entity is a frontend that passes TLS on unread."""
    return entity.key.kind == "frontend" and entity.value["passthrough"] is True


def _check(frontend: Entity, entities: Entities) -> Iterator[Finding]:
    for listener, _ in _places(frontend):
        found = entities.get(EntityKey("listener", listener))
        if found is not None and not is_secure(found):
            message = (
                f"{frontend.key} passes TLS on, and {found.key} ({place(found)}) takes none: "
                "its protocol is http"
            )
            hint = 'name listeners with "protocol: https"'
            yield Finding("error", frontend.key, ("listeners",), message, hint)
    cluster = entities.get(EntityKey("cluster", str(frontend.value["cluster"])))
    if cluster is not None and cluster.value["tls"] is not None:
        message = (
            f"{frontend.key} passes TLS on as it comes, and {cluster.key} ({place(cluster)}) would "
            "put TLS around it once more"
        )
        hint = 'lead it to a cluster without "tls", or leave out "passthrough"'
        yield Finding("error", frontend.key, ("cluster",), message, hint)


def _places(entity: Entity) -> Iterator[tuple[str, str]]:
    if entity.key.kind == "frontend":
        listeners = entity.value["listeners"]
        assert isinstance(listeners, list), "the model checked it"
        for listener in listeners:
            yield str(listener), str(entity.value["hostname"])
