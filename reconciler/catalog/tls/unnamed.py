"""Backends at Unix sockets, where their cluster wants an address. Called by the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.relations import View, cluster_of
from reconciler.language.findings import Finding
from schemas.entities.entity import EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.cluster import Cluster
from schemas.values.targets import is_unix


def sockets(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about sockets whose certificate would have to have their IP address."""
    backends: set[EntityKey] = set()
    for key in changed:
        if key.kind == "backend":
            backends.add(key)
        elif key.kind == "cluster" and _goes_by_address(view, key.name):
            backends |= {
                EntityKey("backend", name) for name in view.names("backend", f"{key.name}/")
            }
    for key in sorted(backends):
        entity = view.get(key)
        address = entity.typed(Backend).address if entity is not None else ""
        if is_unix(address) and _goes_by_address(view, cluster_of(key)):
            message = f"{key}: a socket has no IP address that a certificate could have"
            hint = "write tls: {server_name: shop.internal} in the cluster"
            yield Finding("error", key, ("address",), message, hint)


def _goes_by_address(view: View, cluster: str) -> bool:
    entity = view.get(EntityKey("cluster", cluster))
    tls = entity.typed(Cluster).tls if entity is not None else None
    return tls is not None and tls.verify and tls.server_name is None
