"""Frontends that get no request of some hostnames, since another one has those more exactly.

A hostname decides before a path does. So a frontend for any hostname, or for a wildcard, that asks
for a path or more is never asked where another has one of these hostnames and takes all of it,
which whoever writes the first for all sites seldom means. One warning for each that is hidden, with
one that hides it. Called by the catalog, as `matches` is; only what a change touches is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice, product
from string import ascii_lowercase, digits

from reconciler.catalog.candidates import covering
from reconciler.catalog.relations import HOST, MATCH, WIDE, View, is_wide, takes_all, term
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend

LOOKS_MAX = 100_000
"""So many pairs are looked at: what is hidden beyond is not told."""
WIDE_MAX = 20
"""Of so many changed frontends with wide hostnames it is looked for what was there before."""
BEFORE_MAX = 1000
"""So much of what was there is looked at, for each."""

_HINT = "give these hostnames a frontend of their own for it, or narrow the other one"
_BEGINNINGS = ("*.", *ascii_lowercase, *digits, "_", "[")
"""How every hostname begins but that for any."""


def hidden(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about frontends that get nothing of some of their hostnames."""
    keys = {key for key in changed if key.kind == "frontend" and key in view}
    found: defaultdict[EntityKey, dict[str, EntityKey]] = defaultdict(dict)
    for loser, hostname, winner in islice(_pairs(keys, view), LOOKS_MAX):
        # It may have the name itself, too.
        if hostname not in view[loser].typed(Frontend).names:
            found[loser].setdefault(hostname, winner)
    for key in sorted(found):
        yield _told(key, found[key], view)


def _above(hostname: str) -> list[str]:
    """Return the hostnames that cover this one and are less exact."""
    return [name for name in covering(hostname) if name != hostname]


def _told(key: EntityKey, hostnames: Mapping[str, EntityKey], view: View) -> Finding:
    first = min(hostnames)
    winner = view[hostnames[first]]
    more = len(hostnames) - 1
    others = f" and {more} other hostname{'' if more == 1 else 's'}" if more else ""
    by = "the like" if more else "it"
    message = (
        f"{key} gets no request for {first}{others}: {winner.key} ({place(winner)}) has {first} "
        f"more exactly and takes all of {by}"
    )
    return Finding("warning", key, (), message, _HINT)


def _pairs(keys: set[EntityKey], view: View) -> Iterator[tuple[EntityKey, str, EntityKey]]:
    """Yield who may be hidden, for which hostname, and by whom."""
    wide = cache(lambda of: sorted(view.related(WIDE, of)))
    looked = 0
    for key in sorted(keys):
        frontend = view[key].typed(Frontend)
        if takes_all(frontend):
            for listener, name in product(frontend.listeners, frontend.names):
                for above in _above(name):
                    yield from ((loser, name, key) for loser in wide(term(listener, above)))
        elif looked < WIDE_MAX and any(map(is_wide, frontend.names)):
            looked += 1
            for winner in _before(frontend, view):
                if winner.key not in keys:
                    yield from _hiding(key, frontend, winner)


def _before(frontend: Frontend, view: View) -> Iterator[Entity]:
    """Yield frontends that may have a hostname of this one more exactly."""
    for name in filter(is_wide, frontend.names):
        if name != "*":
            yield from (view[key] for key in islice(view.related(HOST, name), BEFORE_MAX))
            continue
        for listener, begins in product(frontend.listeners, _BEGINNINGS):
            most = BEFORE_MAX // len(_BEGINNINGS)
            for there in view.related_under(MATCH, term(listener, begins), most).values():
                yield from (view[key] for key in there)


def _hiding(
    key: EntityKey, frontend: Frontend, winner: Entity
) -> Iterator[tuple[EntityKey, str, EntityKey]]:
    other = winner.typed(Frontend)
    if takes_all(other) and not set(frontend.listeners).isdisjoint(other.listeners):
        for name in other.names:
            if any(above in frontend.names for above in _above(name)):
                yield key, name, winner.key
