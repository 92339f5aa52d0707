"""Frontends with the same match: an error, since no order says which would win.

The order is the hostname, then the path (exact, then the longer literal beginning, at equal length
a regex before a suffix before a prefix), then method, headers, query, cookies, networks of
clients. Called by `reconciler.catalog.catalog`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

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


def _shared(networks: Iterable[str], others: Iterable[str]) -> str | None:
    """Return a network that is in both, if there is any: of two that overlap the smaller one."""
    there = [ip_network(each) for each in others]
    for network in map(ip_network, networks):
        for other in there:
            if network.version == other.version and network.overlaps(other):
                return str(max(network, other, key=lambda each: each.prefixlen))
    return None


def _conflict(slot: MatchSlot, one: Entity, other: Entity) -> Iterator[Finding]:
    this, that = one.typed(Frontend), other.typed(Frontend)
    # A method is more specific than none, and a network too, so that only the same ones are in each
    # other's way.
    common = sorted(set(this.methods) & set(that.methods))
    if not common and (this.methods or that.methods):
        return
    shared = _shared(this.client_addresses or (), that.client_addresses or ())
    if shared is None and (this.client_addresses or that.client_addresses):
        return
    later, first = later_first(one, other)
    what = f'{slot.path_kind} "{slot.path}"'
    if common:
        what = f"{', '.join(common)} {what}"
    if shared is not None:
        what += f" by clients in {shared}"
    hostname = "any hostname" if slot.hostname == "*" else slot.hostname
    message = (
        f"{later.key} matches the same requests as {first.key} ({place(first)}): "
        f'{what} of {hostname} on listener "{slot.listener}"'
    )
    hint = "make one of them more specific, or remove it"
    yield Finding("error", later.key, (), message, hint)
