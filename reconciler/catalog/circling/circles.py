"""Requests that go round: backends that are listeners of ours, redirects that lead to themselves.

The catalog asks for the findings about the changed keys, as with `references`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from reconciler.catalog.policies import (
    asked_first,
    concerned,
    levels_of,
    merged,
    policies_of,
    words_of,
)
from reconciler.catalog.relations import (
    DIAL,
    LISTEN,
    View,
    cluster_of,
    dialled,
    listened,
    users,
)
from reconciler.language.findings import Finding, place
from schemas.base import shown
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.policies.forward_auth import ForwardAuth
from schemas.routes.places import Redirect
from schemas.values.names import port_of, split_address
from schemas.values.targets import is_unix

CIRCLE_MAX = 16
"""A circle through more clusters is not looked for: a request that comes back is refused."""
_ASKING_MAX = 1000
"""Of so many frontends it is looked at whom they ask first."""
_ROUND = ": every request would go round in circles"

Onward = Callable[[EntityKey, View], set[str] | None]
"""Where all requests at a listener lead."""


def possible(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about backends that are listeners of ours."""
    pairs: set[tuple[EntityKey, EntityKey]] = set()
    for key in changed:
        entity = view.get(key)
        if entity is None or key.kind not in ("backend", "listener"):
            continue
        addresses = dialled(entity) or listened(entity)
        if not addresses:
            continue
        port = port_of(addresses[0])
        backends = view.related(DIAL, port) if key.kind == "listener" else (key,)
        listeners = view.related(LISTEN, port) if key.kind == "backend" else (key,)
        pairs.update(
            (backend, listener)
            for backend in backends
            for listener in listeners
            if listener.kind == "listener"
        )
    for backend, listener in sorted(pairs):
        address = view[backend].typed(Backend).address
        if _leads_to(address, view[listener].typed(Listener).address):
            message = f"{backend}: {address} is {listener} of this proxy"
            message += f" ({place(view[listener])}): requests that come back there get 508"
            yield Finding("warning", backend, ("address",), message)


def certain(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about clusters that surely lead back to where their requests come from.

    Sure is what holds for every request: each backend that takes any is a listener of ours, and
    all frontends there lead to the very cluster, or to others of which the same is true, or those
    that lead to it listen nowhere else, so that they get again what they sent. Likewise a
    cluster that is asked whether requests may pass, where the question comes to who asks it.
    Anything less is a warning of `possible`.
    """
    clusters: set[str] = set()
    told: set[str] = set()
    for key in changed:
        clusters |= _clusters_near(key, view)
    view.expect(EntityKey("cluster", name) for name in clusters)
    for name in sorted(clusters):
        back = _behind(name, view)
        first = back[0] if back else None
        if first is None:
            continue
        lead = _circle(name, view, _onward)
        circle = lead or _circle(name, view, _asking)
        if circle is not None:
            if circle & told:
                continue
            told |= circle
            why = "whose frontends all lead to it" if lead else "whose frontends all ask it first"
            if others := ", ".join(map(shown, sorted(circle - {name}))):
                why = f"by way of {others}"
            why += _ROUND if lead else ": no request would pass"
        elif set(back) == {first} and _come_from(first, name, view):
            why = f"where its requests come from{_ROUND}"
        else:
            continue
        message = f"cluster {shown(name)} leads back to {first} ({place(view[first])})"
        message += f", {why}"
        hint = "write the addresses of the servers behind the proxy"
        yield Finding("error", _taking(name, view)[0].key, ("address",), message, hint)


def leads_back(cluster: str, view: View) -> EntityKey | None:
    """Return the listener of ours that all requests to a cluster come to, if there is one.

    None as well where `certain` tells of it, since all that come there go round.
    """
    found = set(_behind(cluster, view))
    if len(found) != 1 or _circle(cluster, view, _onward) or _circle(cluster, view, _asking):
        return None
    return found.pop()


def _behind(name: str, view: View) -> list[EntityKey | None]:
    """Return the listener behind each backend that takes requests."""
    cluster = view.get(EntityKey("cluster", name))
    backends = _taking(name, view) if cluster is not None else []
    return [_listener_behind(cluster, each, view) for each in backends if cluster is not None]


def redirects(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about frontends that send requests to the very place where they came from.

    Sure is what keeps host and path, and names the scheme and the port of a listener of theirs:
    the same request comes to the same frontend again.
    """
    suspects: set[EntityKey] = set()
    for key in changed:
        suspects |= {key} if key.kind == "frontend" else set()
        suspects |= users(view, key) if key.kind == "listener" else set()
        # A cookie that its answers have brought may come no more.
        suspects |= concerned(key, view) if key.kind == "policy" else set()
    for key in sorted(key for key in suspects if key in view):
        frontend = view[key].typed(Frontend)
        to = frontend.redirect
        if not isinstance(to, Redirect) or not _stays(to, frontend):
            continue
        for name in frontend.listeners:
            listener = view.get(EntityKey("listener", name))
            if listener is None or (frontend.cookies and _edits_answers(view[key], name, view)):
                continue
            if _is_at(to, listener.typed(Listener)):
                message = (
                    f"{key}: on {listener.key} ({place(listener)}) the redirect leads back to it"
                )
                hint = "name the other listeners alone, or another hostname, port or path"
                yield Finding("error", key, ("redirect",), message, hint)
                break


def _stays(to: Redirect, frontend: Frontend) -> bool:
    """Tell whether host, path and query of a redirect are those of the request."""
    # Of several hostnames one that is sent to another comes back and is sent to itself.
    same_host = to.hostname in (None, "{hostname}", *frontend.names)
    return same_host and to.path is None and not (to.query != "keep" and frontend.query)


def _edits_answers(frontend: Entity, listener: str, view: View) -> bool:
    """Tell whether an answer may bring a cookie, after which the same request is another one."""
    words = merged(levels_of(frontend, listener, view))
    return any(leaf.key == "response_headers" and word.said for leaf, word in words.items())


def _is_at(to: Redirect, listener: Listener) -> bool:
    """Tell whether a redirect leads to the scheme and the port of a listener."""
    spoken = "https" if listener.tls is not None else "http"
    if to.scheme not in (None, spoken):
        return False
    usual = {"http": 80, "https": 443}[spoken]
    if to.port is None and to.scheme is None:
        return True
    return str(to.port or usual) == port_of(listener.address)


def _clusters_near(key: EntityKey, view: View) -> set[str]:
    entity = view.get(key)
    if key.kind in ("cluster", "backend"):
        return {cluster_of(key)}
    if entity is not None and key.kind == "frontend":
        asked = [word for each in (entity, *policies_of(entity, view)) for word in asked_by(each)]
        return {*entity.typed(Frontend).clusters, *asked}
    if entity is not None and key.kind == "policy":
        return set(asked_by(entity))
    if entity is not None and key.kind == "listener":
        port = port_of(entity.typed(Listener).address)
        return {cluster_of(each) for each in view.related(DIAL, port)}
    return set()


def _taking(cluster: str, view: View) -> list[Entity]:
    """Return the backends that take requests; none as soon as one surely leads elsewhere."""
    found = []
    for name in view.names("backend", f"{cluster}/"):
        entity = view[EntityKey("backend", name)]
        backend = entity.typed(Backend)
        if not backend.weight:
            continue
        if is_unix(backend.address) or not view.related(LISTEN, port_of(backend.address)):
            return []
        found.append(entity)
    return found


def _listener_behind(cluster: Entity, backend: Entity, view: View) -> EntityKey | None:
    """Return the listener that takes what is sent to a backend, if it speaks what is spoken."""
    address, sent = backend.typed(Backend).address, cluster.typed(Cluster)
    for key, listening in view.related(LISTEN, port_of(address)).items():
        if key.kind != "listener" or not _leads_to(address, listening):
            continue
        taken = view[key].typed(Listener)
        same_tls = (taken.tls is None) == (sent.tls is None)
        if same_tls and not taken.proxy_protocol and not sent.proxy_protocol:
            return key
    return None


def asked_by(entity: Entity) -> Iterator[str]:
    """Yield the cluster that a frontend or a policy has asked first."""
    for _, word in words_of(entity):
        if isinstance(word.said, ForwardAuth):
            yield word.said.cluster


def _circle(name: str, view: View, to: Onward) -> set[str] | None:
    """Return the clusters that all requests of one go through, for ever and back to it.

    None as soon as some may get out.
    """
    found, waiting, returns = {name}, [name], False
    while waiting:
        for listener in set(_behind(waiting.pop(), view)) or {None}:
            onward = to(listener, view) if listener else None
            if not onward or len(found | onward) > CIRCLE_MAX:
                return None
            returns = returns or name in onward
            waiting += onward - found
            found |= onward
    return found if returns else None


def _onward(listener: EntityKey, view: View) -> set[str] | None:
    """Return the clusters to which all frontends of a listener lead; None as soon as one has none.

    Also when there are many: some of them lead elsewhere.
    """
    found: set[str] = set()
    for key in users(view, listener):
        frontend = view[key].typed(Frontend)
        if frontend.redirect is not None or not frontend.clusters:
            return None
        found.update(frontend.clusters)
        if len(found) > CIRCLE_MAX:
            return None
    return found


def _asking(listener: EntityKey, view: View) -> set[str] | None:
    """Return the same where all or some of them ask first: to whom the questions lead."""
    found: set[str] = set()
    who = users(view, listener)
    for key in who if len(who) <= _ASKING_MAX else ():
        frontend = view[key].typed(Frontend)
        words = {} if frontend.passthrough else merged(levels_of(view[key], listener.name, view))
        asked = asked_first(words)
        if not asked and (frontend.redirect is not None or not frontend.clusters):
            return None
        found.update([asked[0][0].cluster] if asked else frontend.clusters)
        if len(found) > CIRCLE_MAX:
            return None
    return found


def _come_from(listener: EntityKey, cluster: str, view: View) -> bool:
    """Tell whether all requests of a cluster are those that a listener would route to it again."""
    who = users(view, EntityKey("cluster", cluster))
    if any(each.kind != "frontend" for each in who):
        # Questions about requests come as well.
        return False
    frontends = [view[each].typed(Frontend) for each in who]
    return bool(frontends) and all(
        # What a header says may be otherwise the second time, and so is who asks.
        each.cluster == cluster
        and list(each.listeners) == [listener.name]
        and each.redirect is None
        and not (each.headers or each.cookies or each.client_addresses)
        for each in frontends
    )


def _leads_to(address: str, listener: str) -> bool:
    """Say whether who connects to an address surely comes to a listener with the same port."""
    ip, listening = split_address(address)[0], split_address(listener)[0]
    if ip.version != listening.version:
        return False
    # Which other addresses this machine has is not known here.
    ours = ip.is_loopback or ip.is_unspecified
    return (
        ip == listening
        or (listening.is_unspecified and ours)
        or (ip.is_unspecified and listening.is_loopback)
    )
