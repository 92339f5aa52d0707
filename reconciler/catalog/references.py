"""References between entities: dangling names, clashing addresses, what nothing uses.

The catalog asks for the findings about the changed keys; what a change does not touch is not looked
at. How frontends match is in `matches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.catalog.policies import concerned, levels_of, merged
from reconciler.catalog.relations import (
    DIAL,
    LISTEN,
    View,
    cluster_of,
    dialled,
    listened,
    targets,
    users,
)
from reconciler.language.findings import Finding, later_first, place
from reconciler.language.suggest import suggest
from schemas.base import shown
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.places import Redirect
from schemas.kinds.registry import section_of
from schemas.values.names import is_name, port_of, split_address

NAMES_SHOWN_MAX = 5
"""So many names are listed for one that is unknown and like none of them."""

GUESSES_MAX = 50
"""For so many unknown names it is said what was meant; nobody mends more at once."""


@dataclass(slots=True)
class Written:
    """What entities that are invalid for another reason refer to, as far as it can be read."""

    named: dict[EntityKey, tuple[EntityKey, ...]] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)
    """The kinds of which nobody knows what is referred to."""
    _targets: set[EntityKey] = field(default_factory=set)

    def add(self, key: EntityKey, value: Mapping[str, Any]) -> None:
        """Take in an entity's value as it is written."""
        found: list[EntityKey] = []
        for kind, names in _names_written(key.kind, value):
            found += [EntityKey(kind, name) for name in names if is_name(name)]
            if not all(map(is_name, names)):
                self.unclear.add(kind)
        self.named[key] = tuple(found)
        self._targets.update(found)

    def may_name(self, target: EntityKey) -> bool:
        """Say whether one of them names an entity, or might once it is mended."""
        return target.kind in self.unclear or target in self._targets


def dangling(
    changed: Iterable[EntityKey],
    view: View,
    declared: set[EntityKey],
    written: Written,
) -> Iterator[Finding]:
    """Yield references to what does not exist, those of invalid view too.

    `declared` are view that are there and invalid: their own error is enough.
    """
    guesses = _Guesses(view)
    for key, named in sorted(written.named.items()):
        for target in named:
            if target not in view and target not in declared:
                written.unclear.add(target.kind)
                yield _dangling(key, target, guesses)
    suspects: set[EntityKey] = set()
    for key in changed:
        suspects |= {key} if key in view else users(view, key)
    for key in sorted(suspects):
        for target in targets(view[key]):
            if target not in view and target not in declared:
                # What it should say instead is a name that nobody seems to use.
                written.unclear.add(target.kind)
                yield _dangling(key, target, guesses, view[key])


def clashes(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield addresses on which two would listen."""
    seen: set[frozenset[EntityKey]] = set()
    for key in changed:
        entity = view.get(key)
        for address in listened(entity) if entity else ():
            port = port_of(address)
            for other, other_address in view.related(LISTEN, port).items():
                pair = frozenset((key, other))
                if len(pair) == 2 and pair not in seen and _overlap(address, other_address):
                    seen.add(pair)
                    yield _clash(key, other, view)


def loops(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about backends that are listeners of ours."""
    pairs: set[tuple[EntityKey, EntityKey]] = set()
    for key in changed:
        entity = view.get(key)
        if entity is None or key.kind not in ("backend", "listener"):
            continue
        (address,) = dialled(entity) or listened(entity)
        port = port_of(address)
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
            message += f" ({place(view[listener])}): requests may go round in circles"
            yield Finding("warning", backend, ("address",), message)


def circles(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about clusters that surely lead back to where their requests come from.

    Sure is what holds for every request: each backend that takes any is a listener of ours, and
    all frontends there lead to the very cluster, or those that lead to it listen nowhere else, so
    that they get again what they sent. Anything less is a warning of `loops`.
    """
    clusters: set[str] = set()
    for key in changed:
        clusters |= _clusters_near(key, view)
    view.expect(EntityKey("cluster", name) for name in clusters)
    for name in sorted(clusters):
        cluster = view.get(EntityKey("cluster", name))
        backends = _taking(name, view) if cluster is not None else []
        back = [_listener_behind(cluster, each, view) for each in backends if cluster]
        first = back[0] if back else None
        if first is None:
            continue
        if all(each and _is_closed(each, name, view) for each in back):
            why = "whose frontends all lead to it"
        elif set(back) == {first} and _come_from(first, name, view):
            why = "where its requests come from"
        else:
            continue
        message = f"cluster {shown(name)} leads back to {first} ({place(view[first])})"
        message += f", {why}: every request would go round in circles"
        hint = "write the addresses of the servers behind the proxy"
        yield Finding("error", backends[0].key, ("address",), message, hint)


def endless(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
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
    return same_host and to.path is None and not (to.query == "drop" and frontend.query)


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
        return set(entity.typed(Frontend).clusters)
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
        if not view.related(LISTEN, port_of(backend.address)):
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


def _is_closed(listener: EntityKey, cluster: str, view: View) -> bool:
    """Tell whether every frontend of a listener leads to one cluster, whatever is asked for."""
    frontends = [view[each].typed(Frontend) for each in users(view, listener)]
    return bool(frontends) and all(
        each.cluster == cluster and each.redirect is None for each in frontends
    )


def _come_from(listener: EntityKey, cluster: str, view: View) -> bool:
    """Tell whether all requests of a cluster are those that a listener would route to it again."""
    frontends = [view[each].typed(Frontend) for each in users(view, EntityKey("cluster", cluster))]
    return bool(frontends) and all(
        # What a header says may be otherwise the second time, and so is who asks.
        each.cluster == cluster
        and list(each.listeners) == [listener.name]
        and each.redirect is None
        and not (each.headers or each.cookies or each.client_addresses)
        for each in frontends
    )


def without_backends(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about clusters that can serve nothing."""
    clusters = {
        EntityKey("cluster", cluster_of(key))
        for key in changed
        if key.kind in ("cluster", "backend")
    }
    for key in sorted(clusters):
        if key not in view:
            continue
        weights = [
            view[EntityKey("backend", name)].typed(Backend).weight
            for name in view.names("backend", f"{key.name}/")
        ]
        if not weights:
            yield Finding("warning", key, (), f"{key} has no backends: its frontends get 503")
        elif not any(weights):
            message = f"every backend of {key} has the weight 0: its frontends get 503"
            yield Finding("warning", key, (), message)


def unused(
    changed: Iterable[EntityKey],
    before: Iterable[Entity],
    view: View,
    written: Written,
) -> Iterator[Finding]:
    """Yield warnings about what nobody names, not even a frontend or a listener that is wrong.

    `before` are the changed entities as they were: what they named may be unused now.
    """
    suspects = {key for key in changed if key.kind in ("cluster", "listener", "policy")}
    for entity in before:
        suspects.update(targets(entity))
    for key in sorted(suspects):
        if key in view and not users(view, key) and not written.may_name(key):
            yield Finding("warning", key, (), _unused(key))


def _unused(key: EntityKey) -> str:
    match key.kind:
        case "listener":
            return f"no frontend names {key}: every request gets 404"
        case "policy":
            return f"no frontend and no listener names {key}"
        case _:
            return f"no frontend names {key}"


def _names_written(kind: str, value: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the kinds that an entity refers to, each with the names as they are written."""
    if kind == "listener":
        tls = value.get("tls")
        default = tls.get("default_certificate") if isinstance(tls, dict) else None
        yield "certificate", [default] if default is not None else []
    elif kind == "frontend":
        if value.get("cluster") is not None or not _answers(value):
            yield "cluster", [value.get("cluster")]
        split = value.get("split")
        if isinstance(split, dict):
            yield "cluster", list(split)
        mirror = value.get("mirror")
        if isinstance(mirror, dict):
            yield "cluster", [mirror.get("cluster")]
        listeners = value.get("listeners")
        yield "listener", (isinstance(listeners, list) and listeners) or [None]
    if kind in ("listener", "frontend") and value.get("policies") is not None:
        policies = value["policies"]
        yield "policy", policies if isinstance(policies, list) else [None]


def _answers(frontend: Mapping[str, Any]) -> bool:
    """Tell whether a frontend as it is written has no need of one cluster."""
    by_itself = "respond" in frontend or isinstance(frontend.get("redirect"), dict)
    return by_itself or isinstance(frontend.get("split"), dict)


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


def _overlap(one: str, other: str) -> bool:
    # "[::]" is bound for IPv6 alone, so that the two families never meet.
    ip, other_ip = split_address(one)[0], split_address(other)[0]
    wildcard = ip.is_unspecified or other_ip.is_unspecified
    return ip.version == other_ip.version and (wildcard or ip == other_ip)


class _Guesses:
    """What may have been meant by unknown names, as often as it is worth the time."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._names: dict[str, list[str]] = {}
        self._hints: dict[EntityKey, str] = {}

    def hint(self, target: EntityKey) -> str:
        """Return what to do about a name that is not there."""
        if target not in self._hints:
            if len(self._hints) == GUESSES_MAX:
                return f"define it under {section_of(target.kind)}:, in any file"
            self._hints[target] = self._guess(target)
        return self._hints[target]

    def _guess(self, target: EntityKey) -> str:
        names = self._names.get(target.kind)
        if names is None:
            names = self._names[target.kind] = self._view.names(target.kind)
        close = suggest(target.name, names)
        if close is not None:
            there = place(self._view[EntityKey(target.kind, close)])
            return f'did you mean "{close}" ({there})?'
        if not names:
            return f"define it under {section_of(target.kind)}:, in any file"
        more = ", …" if len(names) > NAMES_SHOWN_MAX else ""
        return f"known: {', '.join(names[:NAMES_SHOWN_MAX])}{more}"


def _dangling(
    key: EntityKey, target: EntityKey, guesses: _Guesses, by: Entity | None = None
) -> Finding:
    path: tuple[str, ...] = {
        "listener": ("listeners", target.name),
        "certificate": ("tls", "default_certificate"),
        "policy": ("policies", target.name),
    }.get(target.kind, (target.kind,))
    if by is not None and (key.kind, target.kind) == ("frontend", "cluster"):
        path = _names_at(by.typed(Frontend), target.name)
    return Finding("error", key, path, f"{key}: there is no {target}", guesses.hint(target))


def _names_at(frontend: Frontend, cluster: str) -> tuple[str, ...]:
    """Return where a frontend names a cluster."""
    if cluster in frontend.split:
        return ("split", cluster)
    return ("cluster",) if frontend.cluster == cluster else ("mirror", "cluster")


def _clash(one: EntityKey, other: EntityKey, view: View) -> Finding:
    later, first = later_first(view[one], view[other])
    (address,), (taken,) = listened(later), listened(first)
    name = "admin" if later.key.kind == "settings" else "address"
    taken_by = f"{first.key} ({place(first)})"
    message = f"{later.key}: {address} is taken by {taken_by}"
    if address != taken:
        message += f", which listens on {taken}"
    return Finding("error", later.key, (name,), message, "choose another port or IP address")
