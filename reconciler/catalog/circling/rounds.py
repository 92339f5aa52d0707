"""Redirects that lead to one another for ever: warnings, where that is certain.

A client's way is followed from each changed redirect, place by place, as long as it is sure who
takes it: a frontend that asks for hostname and path alone, and before which none can come. Whoever
is sent on as often as browsers follow goes round. One that leads to its very self is an error of
`circles`. Called by the catalog; only what a change touches is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reconciler.catalog.candidates import candidates, covering, passes_tls_on
from reconciler.catalog.circling.circles import redirects
from reconciler.catalog.relations import LISTEN, View, is_secure
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.routes.places import PathChange, Redirect

FOLLOWED_MAX = 20
"""So many redirects browsers follow."""
LOOKS_MAX = 2000
"""So many changed redirects are followed."""
_NAMES_MAX = 4
_USUAL = {"http": 80, "https": 443}
_LABEL = "any"
"""What stands for the part of a hostname, or of a path, that is left open."""


class Spot(NamedTuple):
    """Where a request arrives."""

    listener: str
    hostname: str
    path: str


def endless(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about redirects that no client comes to an end of."""
    told: set[EntityKey] = set()
    looked = 0
    for key in sorted(changed):
        entity = view.get(key) if key.kind == "frontend" else None
        if entity is None or key in told or looked >= LOOKS_MAX:
            continue
        if not isinstance(entity.typed(Frontend).redirect, Redirect):
            continue
        looked += 1
        round_ = next(filter(None, (_round(entity, spot, view) for spot in _spots(entity))), None)
        if round_ is not None and not any(redirects([key], view)):
            told |= {each.key for each in round_}
            yield _told(entity, round_, view)


def _told(entity: Entity, round_: Sequence[Entity], view: View) -> Finding:
    others = [each for each in round_ if each.key != entity.key]
    message = f"{entity.key}: its redirect leads to where it comes from, without an end"
    if others:
        ways = ", ".join(f"{each.key} ({place(each)})" for each in others)
        message = f"{entity.key}: its redirect leads to {ways}, and back, without an end"
    hint = "have the place that it leads to taken by a frontend with a cluster"
    return Finding("warning", entity.key, ("redirect",), message, hint)


def _spots(entity: Entity) -> Iterator[Spot]:
    """Yield places that a frontend is made for, if it looks at hostname and path alone."""
    frontend = entity.typed(Frontend)
    if not _is_sure(frontend):
        return
    kind, path = frontend.path.given()
    if kind == "prefix":
        path = f"{path.rstrip('/')}/{_LABEL}"
    for listener in frontend.listeners:
        for name in frontend.names[:_NAMES_MAX]:
            hostname = f"{_LABEL}.invalid" if name == "*" else name.replace("*", _LABEL)
            yield Spot(listener, hostname, path)


def _is_sure(frontend: Frontend) -> bool:
    """Tell whether it takes whatever comes to its hostname and path, which are looked up."""
    return frontend.path.given()[0] in ("exact", "prefix") and _is_plain(frontend)


def _is_plain(frontend: Frontend) -> bool:
    asks = frontend.headers or frontend.query or frontend.cookies or frontend.client_addresses
    return not asks and (not frontend.methods or "GET" in frontend.methods)


def _round(entity: Entity, spot: Spot, view: View) -> list[Entity] | None:
    """Return those who send a request round for ever; None where it gets out, or may."""
    round_: dict[EntityKey, Entity] = {}
    taker: Entity | None = entity
    for _ in range(FOLLOWED_MAX):
        onward = _onward(taker, spot, view) if taker is not None else None
        if taker is None or onward is None:
            return None
        round_[taker.key] = taker
        spot, taker = onward, _taker(onward, view)
    return list(round_.values())


def _onward(taker: Entity, spot: Spot, view: View) -> Spot | None:
    """Return where whoever takes a request sends it, as far as that is sure."""
    frontend, here = taker.typed(Frontend), view.get(EntityKey("listener", spot.listener))
    if here is None:
        return None
    to = frontend.redirect
    if to == "https" and not is_secure(here):
        found = (view.get(EntityKey("listener", name)) for name in frontend.listeners)
        there = next((each for each in found if each is not None and is_secure(each)), None)
        return spot._replace(listener=there.key.name) if there is not None else None
    if not isinstance(to, Redirect):
        return None
    listener = _listener(to, here, view)
    hostname = (to.hostname or spot.hostname).replace("{hostname}", spot.hostname)
    path = spot.path if to.path is None else _path(to.path, frontend, spot.path)
    if listener is None or path is None:
        return None
    return Spot(listener, hostname, path)


def _listener(to: Redirect, here: Entity, view: View) -> str | None:
    """Return the listener that a redirect leads to, if there is one alone."""
    spoken = here.typed(Listener).protocol
    if to.port is None and to.scheme is None:
        return here.key.name
    scheme = to.scheme or spoken
    found = view.related(LISTEN, str(to.port or _USUAL[scheme]))
    names = [key.name for key in found if key.kind == "listener"]
    names = [
        name
        for name in names
        if view[EntityKey("listener", name)].typed(Listener).protocol == scheme
    ]
    if here.key.name in names:
        return here.key.name
    return names[0] if len(names) == 1 else None


def _path(change: PathChange, frontend: Frontend, path: str) -> str | None:
    kind, text = change.given()
    made = text.replace("{path}", path)
    if "{" in made or "}" in made:
        return None
    if kind == "prefix":
        _, prefix = frontend.path.given()
        made = f"{made.rstrip('/')}{path[len(prefix.rstrip('/')) :]}"
    return made or "/"


def _taker(spot: Spot, view: View) -> Entity | None:
    """Return who takes the requests of a place; None where it depends on more, or nobody does."""
    if passes_tls_on(view, spot.listener, spot.hostname):
        return None
    there = [view[key] for key in candidates(view, *spot)]
    for name in covering(spot.hostname):
        named = [each for each in there if name in each.typed(Frontend).names]
        if named:
            # A more exact hostname goes before all else, if anything of it fits.
            best = max(named, key=_order)
            return best if _is_sure(best.typed(Frontend)) else None
    return None


def _order(entity: Entity) -> float:
    """Return how early a frontend that may match comes; who needs to be tried comes first."""
    frontend = entity.typed(Frontend)
    kind, path = frontend.path.given()
    ahead = 0.0 if _is_plain(frontend) else 0.5
    if kind == "exact":
        return 2.0**20 + ahead
    # A regex may match, and may have the longer beginning.
    return len(path.rstrip("/")) + 1 + ahead if kind == "prefix" else 2.0**19
