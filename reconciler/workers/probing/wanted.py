"""Who is checked, and how: what the running state says of it, as the prober is told it.

A cluster with a health check has all of its backends checked. Reads the few entities that are asked
for. Called by `leading` beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from reconciler.storage.reading.state import StoredState
from reconciler.storage.store import Store
from schemas.entities.entity import EntityKey, Json, canonical
from schemas.entities.material import materials_of
from schemas.kinds.backend import Backend
from schemas.record import record

_PART = 500


@record
class CheckedPart:
    """A part of what the prober is told."""

    puts: str
    removes: list[str]
    materials: list[str]


class CheckedBackends:
    """Who is checked by the running state."""

    def __init__(
        self, store: Store, clusters: Callable[[StoredState, int | None], list[str]]
    ) -> None:
        """`clusters` are the names of those with a health check: all, or so many at most."""
        self._store = store
        self._clusters = clusters

    @property
    def moment(self) -> str:
        """What runs, by a name."""
        running = self._store.running
        return f"{running.generation} {running.state.digest}"

    @property
    def material_dir(self) -> str:
        """Where the files lie that clusters name."""
        return str(self._store.materials.directory)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is checked."""
        return not self._clusters(self._store.running.state, 1)

    def names(self, state: StoredState, most: int) -> list[str]:
        """The first of them, so many at most; asked in a thread, of a snapshot."""
        found = (
            name
            for cluster in sorted(self._clusters(state, None))
            for name in state.names("backend", f"{cluster}/")
        )
        return list(islice(found, most))

    def left(self, cluster: str) -> list[str]:
        """The backends of a cluster that take requests as it runs."""
        state = self._store.running.state
        names = state.names("backend", f"{cluster}/")
        found = ((name, state.get(EntityKey("backend", name))) for name in names)
        return [name for name, each in found if each is not None and each.typed(Backend).weight]

    def whole(self) -> Iterator[CheckedPart]:
        """Yield all who are checked, in parts."""
        for cluster in self._clusters(self._store.running.state, None):
            yield from self.difference([EntityKey("cluster", cluster)])

    def difference(self, changed: Iterable[EntityKey]) -> Iterator[CheckedPart]:
        """Yield what is so by now of the backends that a change of these concerns, in parts."""
        names = dict.fromkeys(self._concerned(changed))
        checks: dict[str, tuple[dict[str, Json], list[str]]] = {}
        each = iter(names)
        while part := list(islice(each, _PART)):
            yield self._told(part, checks)

    def _concerned(self, changed: Iterable[EntityKey]) -> Iterator[str]:
        for key in changed:
            if key.kind == "backend":
                yield key.name
            else:
                yield from self._store.running.state.names("backend", f"{key.name}/")

    def _told(
        self, names: Iterable[str], checks: dict[str, tuple[dict[str, Json], list[str]]]
    ) -> CheckedPart:
        puts, removes = list[str](), list[str]()
        materials = set[str]()
        for name in names:
            cluster = name.partition("/")[0]
            if cluster not in checks:
                checks[cluster] = self._check_of(cluster)
            check, files = checks[cluster]
            backend = self._store.running.state.get(EntityKey("backend", name))
            if not check or backend is None:
                removes.append(name)
                continue
            told = {"name": name, "address": backend.value["address"], **check}
            puts.append(canonical(told).decode())
            materials.update(files)
        return CheckedPart(f"[{','.join(puts)}]", removes, sorted(materials))

    def _check_of(self, cluster: str) -> tuple[dict[str, Json], list[str]]:
        """What is said of each backend of a cluster, {} where none is checked; its files."""
        found = self._store.running.state.get(EntityKey("cluster", cluster))
        if found is None or found.value.get("health_check") is None:
            return {}, []
        told: dict[str, Json] = {"check": found.value["health_check"]}
        told |= {key: found.value[key] for key in ("proxy_protocol", "tls") if key in found.value}
        return told, [each.sha256 for each in materials_of(found)]
