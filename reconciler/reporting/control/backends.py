"""What is known of backends now: as committed, who is drained, and what checks have found.

Called by `reconciler.reporting.control.answers`, for `show backends` and for `explain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from reconciler.reporting.control.draining import Draining
from reconciler.reporting.control.refusals import RefusedRequestError, near
from reconciler.storage.store import Store
from reconciler.workers.probing.leading import Probing, shown
from schemas.entities.entity import EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.cluster import Cluster
from schemas.messages import control, results
from schemas.messages.probing import HealthRow

ROWS_MAX = 1_000


@dataclass(slots=True)
class BackendsTold:
    """Asks the prober of those that are meant."""

    store: Store
    draining: Draining
    probing: Probing

    async def answer(self, request: control.BackendsRequest) -> results.BackendsResult:
        """Those of a cluster, or of all. Raises `RefusedRequestError`."""
        state, cluster = self.store.running.state, request.cluster
        if cluster is not None and state.get(EntityKey("cluster", cluster)) is None:
            meant = near(state, "cluster", cluster)
            message = f'there is no cluster "{cluster}" running{meant}'
            raise RefusedRequestError("not_found", message)
        names = state.names("backend", f"{cluster}/" if cluster else "")
        named = names[:ROWS_MAX]
        rows = {row.name: row for row in await self.probing.rows(named)}
        drained = set(self.draining.drains.names())
        found = []
        for name in named:
            entity = state.get(EntityKey("backend", name))
            if entity is not None:
                backend = entity.typed(Backend)
                found.append(_found(name, backend, name in drained, rows.get(name)))
        problem = self.probing.problem
        return {"backends": found, "more": len(names) - len(named), "problem": problem}

    async def told(self, result: results.ExplainResult) -> None:
        """Add to what serves a request what checks say of it."""
        names = [each["name"] for each in islice(result["backends"], ROWS_MAX)]
        rows = {row.name: row for row in await self.probing.rows(names)}
        for each in result["backends"]:
            row = rows.get(each["name"])
            each["health"] = None if row is None else self._words(row)
        ready = [each for each in result["backends"] if each["weight"] and not each["drained"]]
        out = [each for each in ready if each["name"] in rows and not rows[each["name"]].is_usable]
        if out and result["status"] is None:
            number = f"{len(out)} of {len(ready)} backends"
            result["message"] += f"; {number} get no requests, by their checks"
            if len(out) == len(ready):
                result["message"] += ", and so all of them are tried that were checked"

    def _words(self, row: HealthRow) -> str:
        cluster = self.store.running.state.get(EntityKey("cluster", row.name.partition("/")[0]))
        check = None if cluster is None else cluster.typed(Cluster).health_check
        words = row.health if row.health == "unchecked" else f"{row.health} for {shown(row.for_ms)}"
        if check is not None:
            asked = check.http or check.https
            what = "a connection" if asked is None else f"{asked.method} {asked.path}"
            words += f", by {what} every {shown(check.interval)}"
        if row.fault is not None:
            return f"{words}: {row.fault}"
        took = "" if row.took_us is None else f"; the last took {shown(-(-row.took_us // 1000))}"
        return words + took


def _found(
    name: str, backend: Backend, is_drained: bool, row: HealthRow | None
) -> results.BackendFound:
    return {
        "name": name,
        "address": backend.address,
        "weight": backend.weight,
        "backup": backend.backup,
        "drained": is_drained,
        "health": None if row is None else row.health,
        "usable": not is_drained and bool(backend.weight) and (row is None or row.is_usable),
        "for_s": None if row is None else row.for_ms / 1_000,
        "fault": None if row is None else row.fault,
        "last_s": None if row is None or row.last_ms is None else row.last_ms / 1_000,
        "took_s": None if row is None or row.took_us is None else row.took_us / 1_000_000,
        "checks": [] if row is None else [row.good, row.bad],
    }
