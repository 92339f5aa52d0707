"""Frontends that pass TLS on unread: what they need around them, and what they hide.

A connection that is passed on is decided by its server name alone, so such a frontend needs
listeners that take TLS and a cluster whose backends get bytes as they came; and it takes everything
of its hostname away from others on the same listener. Called by the catalog, as `references` and
`matches` are. Only what a change touches is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from reconciler.catalog.relations import (
    HOST,
    PASSED,
    View,
    fallback_of,
    is_passthrough,
    is_secure,
    listeners_of,
    term,
    users,
)
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend


def misplaced(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about those whose listeners or cluster are not made for it."""
    suspects: set[EntityKey] = set()
    for key in changed:
        if key.kind == "frontend":
            suspects.add(key)
        elif key.kind == "cluster" or (
            key.kind == "listener" and view.related_under(PASSED, term(key.name, ""))
        ):
            named_by = users(view, key)
            # Those of whoever falls back to it.
            others = [each for each in named_by if each.kind == "cluster"]
            suspects.update(named_by, *(users(view, each) for each in others))
    for key in sorted(suspects):
        entity = view.get(key)
        if entity is not None and is_passthrough(entity):
            yield from _check(entity, view)


def hidden(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about frontends that nobody reaches over TLS, since it is passed on."""
    seen: set[tuple[str, str]] = set()
    for key in changed:
        frontend = view.get(key) if key.kind == "frontend" else None
        if frontend is not None:
            asked = frontend.typed(Frontend)
            seen.update(product(asked.listeners, asked.names))
    for listener, hostname in sorted(seen):
        passing = view.related(PASSED, term(listener, hostname))
        if not passing:
            continue
        winner = view[min(passing)]
        for key in sorted(view.related(HOST, hostname).keys() - passing):
            other = view[key].typed(Frontend)
            if hostname not in other.names or listener not in other.listeners:
                continue
            of = f" for {hostname}" if len(other.names) > 1 else ""
            message = (
                f'{key} never gets a request{of} on listener "{listener}": {winner.key} '
                f"({place(winner)}) passes TLS for {hostname} on"
            )
            yield Finding("warning", key, ("listeners",), message)


def _check(frontend: Entity, view: View) -> Iterator[Finding]:
    for listener in listeners_of(frontend):
        found = view.get(EntityKey("listener", listener))
        if found is not None and not is_secure(found):
            message = (
                f"{frontend.key} passes TLS on, and {found.key} ({place(found)}) takes none: "
                "its protocol is http"
            )
            hint = 'name listeners with "protocol: https"'
            yield Finding("error", frontend.key, ("listeners",), message, hint)
    name = frontend.typed(Frontend).cluster
    first = view.get(EntityKey("cluster", name)) if name is not None else None
    spare = fallback_of(first) if first is not None else None
    other = view.get(EntityKey("cluster", spare)) if spare is not None else None
    for cluster in (first, other):
        if cluster is None or cluster.typed(Cluster).tls is None:
            continue
        message = (
            f"{frontend.key} passes TLS on as it comes, and {cluster.key} ({place(cluster)}) would "
            "put TLS around it once more"
        )
        hint = 'lead it to a cluster without "tls", or leave out "passthrough"'
        yield Finding("error", frontend.key, ("cluster",), message, hint)
