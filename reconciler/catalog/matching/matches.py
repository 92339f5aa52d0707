"""Frontends with the same match, which no order tells apart, or too many to be tried: errors.

The order is the hostname, then the path (exact, then the longer literal beginning, at equal length
a regex before a suffix before a prefix), then method, headers, query, cookies, networks of
clients. Called by `reconciler.catalog.catalog`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network

from reconciler.catalog.relations import MATCH, MatchSlot, View, slots, term
from reconciler.language.findings import Finding, later_first, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.routes.match import ValueMatch

TRIED_MAX = 1000
"""So many frontends are tried one by one for a request: expressions and suffixes of a hostname, and
those of one path that differ by conditions alone. All else is looked up."""


def crowded(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about more frontends than may be tried for one request."""
    seen: set[tuple[str, ...]] = set()
    for key in changed:
        for slot in slots(view.get(key)):
            is_tried = slot.path_kind in ("regex", "suffix")
            place_of = slot[:3] if is_tried else slot[:4]
            if place_of in seen:
                continue
            seen.add(place_of)
            there = view.related_under(MATCH, term(*place_of, ""), TRIED_MAX + 1)
            if sum(map(len, there.values())) > TRIED_MAX:
                yield _crowd(key, slot, is_tried=is_tried)


def _crowd(key: EntityKey, slot: MatchSlot, *, is_tried: bool) -> Finding:
    of = f'{_of(slot)} on listener "{slot.listener}"'
    if is_tried:
        what = f"have a {slot.path_kind} for paths {of}"
        hint = "write a prefix where one will do, or give some of them a hostname of their own"
    else:
        what = f'differ by nothing but conditions at {slot.path_kind} "{slot.path}" {of}'
        hint = "write one expression for many values, or give some of them a path of their own"
    message = f"{key}: with it more than {TRIED_MAX} frontends {what}, each of which would be tried"
    return Finding("error", key, (), message, hint)


def _of(slot: MatchSlot) -> str:
    return "of any hostname" if slot.hostname == "*" else f"of {slot.hostname}"


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


def undecided(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about pairs that ask for as much as each other, of different things.

    A request may have all of it, and then goes to the first of them by name.
    """
    seen: set[frozenset[EntityKey]] = set()
    for key in changed:
        for slot in slots(view.get(key)):
            if not any(_conditions(view[key].typed(Frontend))):
                continue
            there = view.related_under(MATCH, term(*slot[:4], ""), TRIED_MAX)
            for other in sorted({other for keys in there.values() for other in keys}):
                pair = frozenset((key, other))
                if len(pair) == 2 and pair not in seen and _are_equal(view[key], view[other]):
                    seen.add(pair)
                    yield _undecided(slot, view[key], view[other])


def _undecided(slot: MatchSlot, one: Entity, other: Entity) -> Finding:
    second, first = sorted((one, other), key=lambda each: each.key, reverse=True)
    message = (
        f"{second.key} asks for as much as {first.key} ({place(first)}), at {slot.path_kind} "
        f'"{slot.path}" {_of(slot)}: what both match goes to {first.key}, whose name is first'
    )
    return Finding("warning", second.key, (), message, "let the one that is meant ask for more")


def _conditions(frontend: Frontend) -> tuple[int, int, int]:
    return len(frontend.headers), len(frontend.query), len(frontend.cookies)


def _are_equal(one: Entity, other: Entity) -> bool:
    """Tell whether two of one place go before each other by nothing, and may match one request."""
    this, that = one.typed(Frontend), other.typed(Frontend)
    if _conditions(this) != _conditions(that) or _asked(this) == _asked(that):
        # The very same ones are a conflict, or told apart by methods and clients.
        return False
    networks, others = this.client_addresses or (), that.client_addresses or ()
    if (this.methods or that.methods) and set(this.methods).isdisjoint(that.methods):
        return False
    if (networks or others) and _shared(networks, others) is None:
        return False
    pairs = zip(_asked(this), _asked(that), strict=True)
    return not any(
        _apart(match, these[name])
        for those, these in pairs
        for name, match in those.items()
        if name in these
    )


def _asked(frontend: Frontend) -> tuple[Mapping[str, ValueMatch], ...]:
    return frontend.headers, frontend.query, frontend.cookies


def _apart(one: ValueMatch, other: ValueMatch) -> bool:
    """Tell whether no value is as both ask for it, as far as that can be seen at a glance."""
    if False in (one.present, other.present):
        return one != other and not (one.negated or other.negated)
    if one.negated != other.negated:
        return one.given() == other.given()
    return not one.negated and None not in (one.exact, other.exact) and one.exact != other.exact


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
    message = (
        f"{later.key} matches the same requests as {first.key} ({place(first)}): "
        f'{what} {_of(slot)} on listener "{slot.listener}"'
    )
    hint = "make one of them more specific, or remove it"
    yield Finding("error", later.key, (), message, hint)
