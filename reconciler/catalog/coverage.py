"""Which hostnames the certificates have, by index: frontends over TLS that no client could trust.

All warnings: a handshake that is refused, or ends with a certificate for another name, is hardly
what was meant, but a commit that brings the certificate may be on its way. Only what a change
touches is looked at. Called by the catalog, as `references` and `matches` are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from reconciler.catalog.references import References
from reconciler.language.findings import Entities, Finding
from reconciler.materials.completing import is_ordered
from schemas.entity import Entity, EntityKey

_HINT = "add one under certificates:, or the name to one that is there"


class Coverage:
    """The index. Entities must be added and removed with the same value."""

    def __init__(self) -> None:
        self._certificates: defaultdict[str, set[EntityKey]] = defaultdict(set)
        self._frontends: defaultdict[str, set[EntityKey]] = defaultdict(set)
        """By hostname, and those with an exact one also by the wildcard that covers it."""
        self._secure: set[EntityKey] = set()
        self._clear: set[EntityKey] = set()
        self.ordered: set[EntityKey] = set()
        """The certificates that come from an ACME server."""

    def add(self, entity: Entity) -> None:
        """Take an entity into the index; certificates, frontends and https listeners matter."""
        for index, name in self._entries(entity):
            index[name].add(entity.key)
        if is_secure(entity):
            self._secure.add(entity.key)
        elif entity.key.kind == "listener":
            self._clear.add(entity.key)
        if is_ordered(entity):
            self.ordered.add(entity.key)

    def remove(self, entity: Entity) -> None:
        """Take an entity out of the index again."""
        for index, name in self._entries(entity):
            index[name].discard(entity.key)
            if not index[name]:
                del index[name]
        self._secure.discard(entity.key)
        self._clear.discard(entity.key)
        self.ordered.discard(entity.key)

    def claims(self, hostname: str, entities: Entities) -> bool:
        """Tell whether a frontend whose TLS is ours answers for an exact hostname."""
        # Among those of the wildcard are also those with an exact name that it covers.
        return any(
            entities[key].value["hostname"] == name and entities[key].value["passthrough"] is False
            for name in (hostname, "*", wildcard_of(hostname) or "*")
            for key in self._frontends.get(name, ())
        )

    def unclaimed(
        self, changed: Iterable[EntityKey], before: Iterable[Entity], entities: Entities
    ) -> Iterator[Finding]:
        """Yield warnings about hostnames of certificates that will not be ordered."""
        suspects = {key for key in changed if key in self.ordered}
        if any(entity.key.kind == "frontend" for entity in before):
            suspects |= self.ordered
        for key in sorted(suspects):
            certificate = entities[key]
            unclaimed = [
                name for name in _hostnames(certificate) if not self.claims(name, entities)
            ]
            if unclaimed:
                message = f"{key}: no frontend has {', '.join(unclaimed[:5])}: it is not ordered"
                yield Finding("warning", key, ("hostnames",), message, "add a frontend for it")
            acme = certificate.value["acme"]
            assert isinstance(acme, dict), "it is ordered"
            if acme["challenge"] == "http-01" and not self._clear:
                message = f"{key}: http-01 is asked in clear text, and no listener speaks it"
                hint = 'add a listener for port 80, or take "challenge: tls-alpn-01"'
                yield Finding("warning", key, ("acme", "challenge"), message, hint)

    def uncovered(
        self,
        changed: Iterable[EntityKey],
        before: Iterable[Entity],
        entities: Entities,
        references: References,
    ) -> Iterator[Finding]:
        """Yield warnings about frontends over TLS whose hostname no certificate has.

        `before` are the changed entities as they were: a name that one had may be missing.
        """
        suspects: set[EntityKey] = set()
        former = {entity.key: entity for entity in before}
        after = [entities[key] for key in changed if key in entities]
        for entity in (*former.values(), *after):
            if entity.key.kind == "frontend":
                suspects.add(entity.key)
            elif entity.key.kind == "certificate":
                for name in _hostnames(entity):
                    suspects |= self._frontends.get(name, set())
        for entity in after:
            if entity.key.kind == "listener" and _shown(former.get(entity.key)) != _shown(entity):
                suspects |= references.users(entity.key)
        for key in sorted(suspects & entities.keys()):
            yield from self._check(entities[key], entities)

    def unused(
        self, changed: Iterable[EntityKey], entities: Entities, references: References
    ) -> Iterator[Finding]:
        """Yield warnings about certificates without a listener, and listeners without any."""
        for key in changed:
            entity = entities.get(key)
            if entity is None:
                continue
            if key.kind == "certificate" and not self._secure:
                yield Finding("warning", key, (), f"no listener has protocol https to serve {key}")
            elif is_secure(entity) and not self._certificates:
                users = [entities[user] for user in references.users(key) if user in entities]
                if users and all(user.value["passthrough"] for user in users):
                    continue
                message = f"{key}: there is no certificate, so that every handshake is refused"
                yield Finding("warning", key, ("protocol",), message, "add certificates:")

    def _check(self, frontend: Entity, entities: Entities) -> Iterator[Finding]:
        named = [entities.get(EntityKey("listener", name)) for name in _listeners(frontend)]
        if frontend.value["client_certificate"] is not None and not any(map(_asks, named)):
            message = f"{frontend.key}: no listener of it asks clients for certificates"
            hint = "every request is answered by 403; give a listener tls.client_ca"
            yield Finding("warning", frontend.key, ("client_certificate",), message, hint)
        hostname = str(frontend.value["hostname"])
        # What is passed on unread is shown the backend's certificate.
        ours = frontend.value["passthrough"] is False
        if not ours or hostname == "*" or hostname.startswith("[") or self._covers(hostname):
            return
        for name in _listeners(frontend):
            listener = entities.get(EntityKey("listener", name))
            if listener is None or not is_secure(listener) or not self._certificates:
                continue
            what = f'listener "{name}" refuses the handshakes'
            default = _default(listener)
            if default:
                what = f'listener "{name}" shows "{default}" instead, which clients do not trust'
            message = f"{frontend.key}: no certificate is for {hostname}: {what}"
            yield Finding("warning", frontend.key, ("hostname",), message, _HINT)
            return

    def _covers(self, hostname: str) -> bool:
        return hostname in self._certificates or wildcard_of(hostname) in self._certificates

    def _entries(self, entity: Entity) -> Iterator[tuple[defaultdict[str, set[EntityKey]], str]]:
        if entity.key.kind == "certificate":
            for name in _hostnames(entity):
                yield self._certificates, name
        elif entity.key.kind == "frontend":
            hostname = str(entity.value["hostname"])
            yield self._frontends, hostname
            wildcard = wildcard_of(hostname)
            if wildcard is not None:
                yield self._frontends, wildcard


def is_secure(entity: Entity) -> bool:
    """Tell whether an entity is a listener that speaks TLS."""
    return entity.key.kind == "listener" and isinstance(entity.value.get("tls"), dict)


def _default(listener: Entity | None) -> str | None:
    """Return the name of a listener's default certificate, "" without one, None without TLS."""
    tls = listener.value.get("tls") if listener else None
    return str(tls["default_certificate"] or "") if isinstance(tls, dict) else None


def _asks(listener: Entity | None) -> bool:
    """Tell whether a listener asks clients for certificates."""
    tls = listener.value.get("tls") if listener else None
    return isinstance(tls, dict) and tls["client_ca"] is not None


def _shown(listener: Entity | None) -> tuple[str | None, bool]:
    return _default(listener), _asks(listener)


def wildcard_of(hostname: str) -> str | None:
    """Return the wildcard by which a certificate may have an exact hostname."""
    label, _, parent = hostname.partition(".")
    return f"*.{parent}" if parent and label != "*" else None


def _hostnames(certificate: Entity) -> Iterator[str]:
    names = certificate.value["hostnames"]
    assert isinstance(names, list), "it was completed by what the file has"
    return (str(name) for name in names)


def _listeners(frontend: Entity) -> list[str]:
    names = frontend.value["listeners"]
    assert isinstance(names, list), "the model checked it"
    return [str(name) for name in names]
