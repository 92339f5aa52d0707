"""Which certificate a listener shows to a client: the engine's rules for SNI, in words.

An exact name goes before the wildcard of its parent, and both before the default certificate. A
client that asks for an IP address names no host. Computed from the running state when somebody
asks; a test compares this with what workers really do. Called by
`reconciler.reporting.explaining.explain`.
"""

from __future__ import annotations

import ipaddress

from reconciler.catalog.relations import COVER, View, default_certificate, wildcard_of
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.certificate import Certificate
from schemas.record import record


@record
class Shown:
    """The certificates that may be shown, by name, and why these; none: it is refused."""

    certificates: list[Entity]
    reason: str


def certificates_for(hostname: str, listener: Entity, state: View) -> Shown:
    """What a client gets that asks an https listener for a hostname in lower case."""
    sni = None if _is_address(hostname) else hostname
    for name in (sni, wildcard_of(sni) if sni else None):
        named = sorted(state.related(COVER, name)) if name is not None else []
        # One that is ordered may not have come yet.
        found = [each for key in named if _is_there(each := state[key])]
        if found:
            choice = ", by what the client can verify" if len(found) > 1 else ""
            return Shown(found, f"for {name}{choice}")
    default = default_certificate(listener)
    entity = state.get(EntityKey("certificate", default)) if default else None
    if entity is not None and _is_there(entity):
        what = f"no certificate is for {sni}" if sni else "the client names no host"
        return Shown([entity], f"the default: {what}")
    return Shown([], f"no certificate is for {hostname}")


def _is_there(certificate: Entity) -> bool:
    return certificate.typed(Certificate).certificate is not None


def _is_address(hostname: str) -> bool:
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True
