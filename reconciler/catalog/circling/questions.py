"""Questions whether requests may pass that come back to the frontend that asks them.

What a frontend asks first (`forward_auth`) has a path of its own and keeps the hostname. Where the
cluster that is asked leads to a listener of ours, who takes the question is known: if it is surely
the one that asks, it asks again and again, and nothing passes. Anything less is a warning of
`circles`. The catalog asks for the findings about the changed keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.candidates import candidates, covering
from reconciler.catalog.circling.circles import asked_by, leads_back
from reconciler.catalog.policies import asked_first, concerned, levels_of, merged
from reconciler.catalog.relations import DIAL, View, cluster_of, is_wide, users
from reconciler.language.findings import Finding, place
from schemas.base import shown
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.policies.forward_auth import ForwardAuth
from schemas.routes.match import PathMatch
from schemas.values.names import port_of

_ASKING_MAX = 1000
"""Of so many frontends it is looked at what becomes of their questions, and what others take."""


def returning(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about frontends of which each question comes to themselves."""
    asked: set[str] = set()
    listeners: set[str] = set()
    for key in changed:
        entity = view.get(key)
        if key.kind in ("cluster", "backend"):
            asked.add(cluster_of(key))
        elif entity is not None and key.kind in ("frontend", "policy"):
            asked.update(asked_by(entity))
        # Who comes or is changed may take the questions of another one, or no longer.
        if entity is not None and key.kind == "frontend":
            listeners.update(entity.typed(Frontend).listeners)
        elif key.kind == "listener":
            listeners.add(key.name)
    for name in listeners:
        found = view.get(EntityKey("listener", name))
        if found is not None:
            port = port_of(found.typed(Listener).address)
            asked.update(cluster_of(key) for key in view.related(DIAL, port))
    for cluster in sorted(asked):
        yield from _about(cluster, view)


def _about(cluster: str, view: View) -> Iterator[Finding]:
    back = leads_back(cluster, view)
    if back is None:
        return
    for key in sorted(_asking(cluster, view)):
        frontend = view[key]
        asks = _who_asks(frontend, cluster, back.name, view)
        if asks is None or not _comes_back(frontend, asks[0].path, back.name, view):
            continue
        own = asks[1].key == key
        where = "" if own else f", as {asks[1].key} ({place(asks[1])}) wants it,"
        message = (
            f"{key}: what it asks cluster {shown(cluster)} first{where} comes back to it by "
            f"{back} ({place(view[back])}), and is asked again: no request would pass"
        )
        path = ("forward_auth", "cluster") if own else ("policies",)
        hint = "write the addresses of who decides, or let another frontend take its path"
        yield Finding("error", key, path, message, hint)


def _asking(cluster: str, view: View) -> set[EntityKey]:
    """Return the frontends that may ask a cluster; none where they are too many."""
    found: set[EntityKey] = set()
    for key in users(view, EntityKey("cluster", cluster)):
        found |= concerned(key, view) if key.kind == "policy" else {key}
    found = {key for key in found if key.kind == "frontend"}
    return found if len(found) <= _ASKING_MAX else set()


def _who_asks(
    frontend: Entity, cluster: str, listener: str, view: View
) -> tuple[ForwardAuth, Entity] | None:
    """Return by what it asks the cluster before all others, whatever listener requests come by."""
    asking = frontend.typed(Frontend)
    if asking.passthrough or listener not in asking.listeners:
        return None
    found: dict[str, tuple[ForwardAuth, Entity]] = {}
    for name in asking.listeners:
        asked = asked_first(merged(levels_of(frontend, name, view)))
        if not asked or asked[0][0].cluster != cluster:
            return None
        found[name] = asked[0]
    return found[listener]


def _comes_back(frontend: Entity, question: str, listener: str, view: View) -> bool:
    """Tell whether the frontend takes the question about each of its requests, by GET."""
    asking = frontend.typed(Frontend)
    # What is asked about may be otherwise in a question, and so is who asks.
    if asking.headers or asking.cookies or asking.query or asking.client_addresses:
        return False
    if asking.methods and "GET" not in asking.methods:
        return False
    path = question.partition("?")[0]
    if "%" in path or "//" in path or "/." in path:
        return False
    rivals = {key for key in users(view, EntityKey("listener", listener)) if key.kind == "frontend"}
    if len(rivals) > _ASKING_MAX:
        return False
    for name in asking.names:
        taking = candidates(view, listener, name, path)
        if frontend.key not in taking:
            return False
        for key in taking - {frontend.key}:
            other = view[key].typed(Frontend)
            if name in other.names and not _goes_before(asking.path, other.path):
                return False
        if is_wide(name) and _is_parted(name, path, rivals - {frontend.key}, listener, view):
            return False
    return True


def _goes_before(one: PathMatch, other: PathMatch) -> bool:
    """Tell whether it surely does, of two that take the same path under the same hostname."""
    (kind, path), (other_kind, other_path) = one.given(), other.given()
    if kind == "exact":
        return bool(other_kind != "exact")
    if kind != "prefix":
        return False
    if other_kind == "prefix":
        return len(path.rstrip("/")) > len(other_path.rstrip("/"))
    # What an expression begins with may be as long; that of a suffix counts as one character.
    return bool(other_kind == "suffix" and len(path.rstrip("/")) > 1)


def _is_parted(
    wide: str, path: str, others: Iterable[EntityKey], listener: str, view: View
) -> bool:
    """Tell whether somebody takes the path under a hostname that is one of many."""
    return any(
        key in candidates(view, listener, name, path)
        for key in others
        for name in view[key].typed(Frontend).names
        if name != wide and wide in covering(name.removeprefix("*."))
    )
