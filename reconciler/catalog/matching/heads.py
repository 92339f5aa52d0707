"""Frontends that protect GET and leave HEAD to another one, which lets everybody in.

`methods: [GET]` is GET alone, where `METH_GET` of HAProxy, `limit_except GET` of nginx and most
frameworks mean HEAD as well. So who protects GET by a frontend of its own has HEAD go to whoever
takes the rest of that path: with the same headers, and the length of what was protected. Called by
the catalog; looked at are changed frontends that name GET alone, and those of changed policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.candidates import candidates
from reconciler.catalog.policies import levels_of, merged
from reconciler.catalog.relations import View, users
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend

_WHO_MAY = ("allow", "basic_auth", "client_certificate", "deny", "forward_auth", "jwt")
_HINT = "write methods: [GET, HEAD]"


def unprotected(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about frontends whose HEAD another one takes, without who may ask."""
    suspects: set[EntityKey] = set()
    for key in changed:
        suspects |= users(view, key) if key.kind == "policy" else {key}
    for key in sorted(key for key in suspects if key.kind == "frontend" and key in view):
        frontend = view[key].typed(Frontend)
        if "GET" not in frontend.methods or "HEAD" in frontend.methods:
            continue
        found = _taker(view[key], frontend, view)
        if found is not None:
            message = (
                f"{key}: HEAD goes to {found.key} ({place(found)}), which does not ask what this "
                "one asks: GET does not mean it"
            )
            yield Finding("warning", key, ("methods",), message, _HINT)


def _taker(entity: Entity, frontend: Frontend, view: View) -> Entity | None:
    """Return a frontend that takes HEAD of the same path to backends without what is asked here."""
    kind, path = frontend.path.given()
    if kind not in ("exact", "prefix"):
        return None
    for listener in frontend.listeners:
        asked = _who_may(entity, listener, view)
        for name in frontend.names if asked else ():
            others = candidates(view, listener, name, path) - {entity.key}
            taking = [view[key] for key in sorted(others) if _takes(view[key].typed(Frontend))]
            open_ones = [each for each in taking if not asked <= _who_may(each, listener, view)]
            if open_ones and len(open_ones) == len(taking):
                return open_ones[0]
    return None


def _takes(frontend: Frontend) -> bool:
    to_backends = bool(frontend.cluster or frontend.split) and not frontend.passthrough
    return to_backends and (not frontend.methods or "HEAD" in frontend.methods)


def _who_may(entity: Entity, listener: str, view: View) -> set[tuple[str, str]]:
    """Return what is asked of clients, in a form that can be compared."""
    words = merged(levels_of(entity, listener, view))
    return {(leaf.key, repr(word.said)) for leaf, word in words.items() if leaf.key in _WHO_MAY}
