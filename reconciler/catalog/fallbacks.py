"""What becomes of the requests of a cluster of which no backend takes any.

Its `fallback` names who serves them then: another cluster, whose own fallback is not asked, or an
answer. The catalog asks for the findings about the changed keys; plans, drains and `explain` for
what is so with the backends that are drained.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from reconciler.catalog.relations import View, cluster_of, fallback_of
from reconciler.language.findings import Finding
from schemas.base import shown
from schemas.clusters.fallback import Fallback
from schemas.entities.entity import EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.cluster import Cluster


def usable(cluster: str, view: View, drained: Collection[str] = ()) -> bool:
    """Tell whether any backend of a cluster takes new requests."""
    return any(
        name not in drained and view[EntityKey("backend", name)].typed(Backend).weight
        for name in view.names("backend", f"{cluster}/")
    )


def said_of(cluster: str, view: View) -> Fallback | None:
    """Return what a cluster says of that, if it is there."""
    entity = view.get(EntityKey("cluster", cluster))
    if entity is None or "fallback" not in entity.value:
        return None
    return entity.typed(Cluster).fallback


def served_by(cluster: str, view: View, drained: Collection[str] = ()) -> str | None:
    """Say who serves the requests of a cluster without a usable backend; None: nobody."""
    said = said_of(cluster, view)
    if said is None:
        return None
    if said.cluster is not None:
        serves = usable(said.cluster, view, drained)
        return f"cluster {shown(said.cluster)} serves its requests" if serves else None
    if said.respond is not None and said.respond.close:
        return "the connections of its requests are closed"
    return f"its requests are answered {said.respond.status}" if said.respond is not None else None


def to_themselves(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about clusters that are to serve their own requests instead."""
    for name in sorted({cluster_of(key) for key in changed if key.kind == "cluster"}):
        key = EntityKey("cluster", name)
        entity = view.get(key)
        if entity is not None and fallback_of(entity) == name:
            message = f"{key}: it is its own fallback"
            hint = "name another cluster, or write fallback: {respond: …}"
            yield Finding("error", key, ("fallback", "cluster"), message, hint)
