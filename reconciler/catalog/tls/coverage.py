"""Which hostnames the certificates have: frontends over TLS that no client could trust.

All warnings: a handshake that is refused, or ends with a certificate for another name, is hardly
what was meant, but a commit that brings the certificate may be on its way. Only what a change
touches is looked at. Called by the catalog, as `references` and `matches` are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.policies import Identified, concerned, levels_of, merged
from reconciler.catalog.relations import (
    CLEAR,
    COVER,
    HOST,
    ORDERED,
    SECURE,
    View,
    default_certificate,
    hostnames,
    is_passthrough,
    is_secure,
    users,
    wildcard_of,
)
from reconciler.language.findings import Finding, place
from reconciler.materials.completing import is_ordered
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.certificate import Certificate
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener

_HINT = "add one under certificates:, or the name to one that is there"
_NAMES_MAX = 5


def ordered(view: View) -> list[Entity]:
    """The certificates that come from an ACME server."""
    found = (view.get(key) for key in sorted(view.related(ORDERED)))
    return [entity for entity in found if entity is not None]


def claims(view: View, hostname: str) -> bool:
    """Tell whether a frontend whose TLS is ours answers for an exact hostname."""
    # Among those of the wildcard are also those with an exact name that it covers.
    return any(
        name in frontend.names and not frontend.passthrough
        for name in (hostname, "*", wildcard_of(hostname) or "*")
        for key in view.related(HOST, name)
        for frontend in (view[key].typed(Frontend),)
    )


def unclaimed(
    changed: Iterable[EntityKey], before: Iterable[Entity], view: View
) -> Iterator[Finding]:
    """Yield warnings about hostnames of certificates that will not be ordered."""
    suspects = {
        key for key in changed if (entity := view.get(key)) is not None and is_ordered(entity)
    }
    if any(entity.key.kind == "frontend" for entity in before):
        suspects.update(view.related(ORDERED))
    for key in sorted(suspects):
        certificate = view[key]
        missing = [name for name in hostnames(certificate) if not claims(view, name)]
        if missing:
            message = f"{key}: no frontend has {', '.join(missing[:5])}: it is not ordered"
            yield Finding("warning", key, ("hostnames",), message, "add a frontend for it")
        acme = certificate.typed(Certificate).acme
        if acme and acme.challenge == "http-01" and not view.related(CLEAR):
            message = f"{key}: http-01 is asked in clear text, and no listener speaks it"
            hint = 'add a listener for port 80, or take "challenge: tls-alpn-01"'
            yield Finding("warning", key, ("acme", "challenge"), message, hint)


def uncovered(
    changed: Iterable[EntityKey], before: Iterable[Entity], view: View
) -> Iterator[Finding]:
    """Yield warnings about frontends over TLS whose hostname no certificate has.

    `before` are the changed entities as they were: a name that one had may be missing.
    """
    suspects: set[EntityKey] = set()
    former = {entity.key: entity for entity in before}
    after = [entity for key in changed if (entity := view.get(key)) is not None]
    for entity in (*former.values(), *after):
        if entity.key.kind == "frontend":
            suspects.add(entity.key)
        elif entity.key.kind == "certificate":
            for name in hostnames(entity):
                suspects.update(view.related(HOST, name))
    for entity in after:
        if entity.key.kind == "listener" and _shown(former.get(entity.key)) != _shown(entity):
            suspects |= users(view, entity.key)
    # Without any certificate, that is said of the listener.
    any_certificate = bool(suspects) and view.count("certificate") > 0
    for key in sorted(suspects):
        frontend = view.get(key)
        if frontend is not None:
            yield from _check(frontend, view, any_certificate=any_certificate)


def unasked(
    changed: Iterable[EntityKey], before: Iterable[Entity], view: View
) -> Iterator[Finding]:
    """Yield warnings about frontends that want certificates of clients whom nobody asks for one."""
    former = {entity.key: entity for entity in before}
    suspects: set[EntityKey] = set()
    for key in changed:
        if key.kind == "policy":
            suspects |= concerned(key, view)
        elif key.kind == "listener" and _asks(former.get(key)) and not _asks(view.get(key)):
            suspects |= users(view, key)
        else:
            suspects.add(key)
    for key in sorted(each for each in suspects if each.kind == "frontend" and each in view):
        listeners = view[key].typed(Frontend).listeners
        if any(_asks(view.get(EntityKey("listener", name))) for name in listeners):
            continue
        said = [merged(levels_of(view[key], name, view)).values() for name in listeners]
        wanting = (word.by for words in said for word in words if isinstance(word.said, Identified))
        by = next(wanting, None)
        if by is not None:
            where = "" if by.key == key else f", as {by.key} ({place(by)}) wants it"
            message = f"{key}: no listener of it asks clients for certificates{where}"
            hint = "every request is answered by 403; give a listener tls.client_ca"
            path = ("client_certificate",) if by.key == key else ("policies",)
            yield Finding("warning", key, path, message, hint)


def unused(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about certificates without a listener, and listeners without any."""
    for key in changed:
        entity = view.get(key)
        if entity is None:
            continue
        if key.kind == "certificate" and not view.related(SECURE):
            yield Finding("warning", key, (), f"no listener has protocol https to serve {key}")
        elif is_secure(entity) and view.count("certificate") == 0:
            there = [found for user in users(view, key) if (found := view.get(user)) is not None]
            if there and all(map(is_passthrough, there)):
                continue
            message = f"{key}: there is no certificate, so that every handshake is refused"
            yield Finding("warning", key, ("protocol",), message, "add certificates:")


def _check(frontend: Entity, view: View, *, any_certificate: bool) -> Iterator[Finding]:
    asked = frontend.typed(Frontend)
    named = [view.get(EntityKey("listener", name)) for name in asked.listeners]
    # What is passed on unread is shown the backend's certificate.
    if asked.passthrough:
        return
    secure = [each for each in named if each is not None and is_secure(each)]
    if not secure or not any_certificate:
        return
    needed = [name for name in asked.names if name != "*" and not name.startswith("[")]
    missing = [name for name in needed if not _covers(view, name)]
    if not missing:
        return
    hostname = ", ".join(missing[:_NAMES_MAX]) + (", …" if missing[_NAMES_MAX:] else "")
    listener = secure[0]
    what = f'listener "{listener.key.name}" refuses the handshakes'
    default = default_certificate(listener)
    if default:
        what = (
            f'listener "{listener.key.name}" shows "{default}" instead, which clients do not trust'
        )
    message = f"{frontend.key}: no certificate is for {hostname}: {what}"
    place = ("hostnames", missing[0]) if asked.hostnames else ("hostname",)
    yield Finding("warning", frontend.key, place, message, _HINT)


def _covers(view: View, hostname: str) -> bool:
    wildcard = wildcard_of(hostname)
    return bool(view.related(COVER, hostname) or (wildcard and view.related(COVER, wildcard)))


def _asks(listener: Entity | None) -> bool:
    """Tell whether a listener asks clients for certificates."""
    tls = listener.typed(Listener).tls if listener else None
    return tls is not None and tls.client_ca is not None


def _shown(listener: Entity | None) -> tuple[str | None, bool]:
    return default_certificate(listener), _asks(listener)
