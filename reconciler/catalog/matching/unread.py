"""Frontends at listeners of which nothing is read (`protocol: tcp` and `tls`): what can be said.

A connection goes by who has opened it, and by the name that was asked for where TLS ends here. So
whatever is known of requests only would be
ignored, and is an error; and backends get bytes as they came. Called by the catalog, as
`references` and `matches` are. Only what a change touches is looked at: where no listener is of
that kind, that is a look at none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.catalog.relations import BYTES, View, is_bytes, is_secure, listeners_of, users
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.policy import Policy

_SAID = {"allow", "client_addresses", "cluster", "deny", "listeners", "policies", "timeouts"}
_OF_NAMES = {"hostname", "hostnames"}
_SAID_BY_POLICIES = {"allow", "deny", "overridable", "timeouts"}
_TIMEOUTS = {"tunnel"}
# It is in the language, and does not work there yet.
_LATER = {"bandwidth", "client_certificate", "concurrency"}


def misplaced(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about what is said of requests where there are none."""
    changed = tuple(changed)
    listeners = set(view.related(BYTES))
    listeners |= {key for key in changed if key.kind == "listener" and is_bytes(view.get(key))}
    if not listeners:
        return
    for key in sorted(_suspects(changed, listeners, view)):
        entity = view.get(key)
        if entity is None:
            continue
        if key.kind == "listener":
            yield from _of_policies(key, entity.typed(Listener).policies, view)
        else:
            yield from _of_frontend(entity, view)


def _suspects(
    changed: Iterable[EntityKey], listeners: set[EntityKey], view: View
) -> Iterator[EntityKey]:
    """Frontends and listeners that a change may have made wrong, perhaps more than once."""
    suspects: set[EntityKey] = set()
    for key in changed:
        if key.kind == "frontend":
            suspects.add(key)
        elif key in listeners:
            suspects |= {key, *(each for each in users(view, key) if each.kind == "frontend")}
        elif key.kind in ("cluster", "policy"):
            suspects |= users(view, key)
    for key in suspects:
        if key in listeners or (key.kind == "frontend" and _is_there(key, listeners, view)):
            yield key


def _is_there(key: EntityKey, listeners: set[EntityKey], view: View) -> bool:
    frontend = view.get(key)
    named = listeners_of(frontend) if frontend is not None else ()
    return any(EntityKey("listener", name) in listeners for name in named)


def _of_frontend(frontend: Entity, view: View) -> Iterator[Finding]:
    key, says = frontend.key, frontend.typed(Frontend)
    found = [view.get(EntityKey("listener", name)) for name in says.listeners]
    there = [each for each in found if each is not None]
    unread = next((each for each in there if is_bytes(each)), None)
    if unread is None:
        return
    where = f"{unread.key} ({place(unread)}) passes bytes on as they come"
    for each in there:
        if not is_bytes(each):
            message = f"{key}: {where}, and {each.key} ({place(each)}) takes requests"
            hint = "write a frontend for each of them"
            yield Finding("error", key, ("listeners",), message, hint)
    nameless = next((each for each in there if is_bytes(each) and not is_secure(each)), None)
    may = _SAID | _OF_NAMES if nameless is None else _SAID
    for said, at in _beyond(frontend.value, may):
        message = f"{said}: {where}, so that nothing is known of it"
        if said in _LATER:
            message = f"{said}: {where}, where this does not work yet"
        hint = f'remove "{said}", or name listeners with protocol http or https'
        if said in _OF_NAMES and nameless is not None:
            message = f"{said}: {nameless.key} ({place(nameless)}) passes bytes on, which name none"
            hint = f'remove "{said}", or end TLS here by "protocol: tls"'
        yield Finding("error", key, at, message, hint)
    yield from _of_policies(key, says.policies, view)
    yield from _of_cluster(frontend, where, view)


def _beyond(value: Mapping[str, object], may: set[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is said beside that, with its place."""
    for name in sorted(value.keys() - may):
        yield name, (name,)
    timeouts = value.get("timeouts")
    for name in sorted(timeouts.keys() - _TIMEOUTS if isinstance(timeouts, dict) else ()):
        yield f"timeouts.{name}", ("timeouts", name)


def _of_policies(key: EntityKey, names: Iterable[str], view: View) -> Iterator[Finding]:
    for name in names:
        policy = view.get(EntityKey("policy", name))
        if policy is None:
            continue
        for said, _ in _beyond(policy.typed(Policy).value(), _SAID_BY_POLICIES):
            message = (
                f"{key}: {policy.key} ({place(policy)}) says {said}, and of bytes that pass "
                "unread nothing is known but who sends them"
            )
            hint = "name policies there with nothing but allow, deny and timeouts.tunnel"
            yield Finding("error", key, ("policies",), message, hint)
            break


def _of_cluster(frontend: Entity, where: str, view: View) -> Iterator[Finding]:
    name = frontend.typed(Frontend).cluster
    cluster = view.get(EntityKey("cluster", name)) if name is not None else None
    if cluster is None:
        return
    says = cluster.typed(Cluster)
    said = "tls" if says.tls is not None else "protocol" if says.protocol != "http" else None
    if said is None:
        return
    message = f"{where}, and {cluster.key} ({place(cluster)}) has {said}"
    hint = f'lead it to a cluster without "{said}"'
    yield Finding("error", frontend.key, ("cluster",), message, hint)
