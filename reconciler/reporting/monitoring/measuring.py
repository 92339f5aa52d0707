"""The reconciler's own numbers, its health, and what of the traffic a plan touches.

Called by `reconciler.reporting.monitoring.admin` and for plans, through what `reconciler.daemon`
joins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler import log
from reconciler.acme.certifying import Certifying
from reconciler.catalog.matching.weights import size_of
from reconciler.issuers.keeping import IssuerKeys
from reconciler.materials.external import ExternalFiles
from reconciler.parts import Parts
from reconciler.planning.planner import Live
from reconciler.reporting.expiry import Expiring, Expiry
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.source import Source
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from reconciler.workers.counting.readings import (
    SERVING_KINDS,
    SLOT_KINDS,
    Reading,
    SlotKey,
    Wanted,
)
from reconciler.workers.probing.leading import Probing
from reconciler.workers.slots.slot import Slot
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.watching.auditing import Auditing
from reconciler.workers.watching.binding import unbound
from schemas.changes.change import Change
from schemas.entities.entity import EntityKey
from schemas.kinds.registry import section_of
from schemas.kinds.settings import Settings
from schemas.values.units import format_size

if TYPE_CHECKING:
    from reconciler.reporting.monitoring.metrics import HealthNumbers, OwnNumbers

# More than so many are read all at once.
_LOOKED_UP_MAX = 16
# So many listeners that take no connections are named.
_UNBOUND_MAX = 3


class Measuring:
    """Looks at the parts when somebody asks."""

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        outcomes: Outcomes,
        count_after: Callable[[Sequence[Change]], int],
        expiry: Expiry,
        source: Source,
        auditing: Auditing,
        certifying: Certifying,
        external: ExternalFiles,
        issuers: IssuerKeys,
        probing: Probing,
        parts: Parts,
        began: float,
    ) -> None:
        self._store = store
        self._expiry = expiry
        self._supervisor = supervisor
        self._outcomes = outcomes
        self._count_after = count_after
        self._source = source
        self._auditing = auditing
        self._certifying = certifying
        self._external = external
        self._issuers = issuers
        self._probing = probing
        self._parts = parts
        self._began = began
        self._loop = asyncio.get_running_loop()

    def metrics(self) -> bytes:
        """The text for Prometheus. Called in a thread: it only reads."""
        from reconciler.reporting.monitoring import metrics  # noqa: PLC0415  # 50 ms, and it may stay unasked

        return metrics.render(self._registry)

    def left_out(self) -> list[str]:
        """What to say when not all entities have series of their own, or not all are counted."""
        state = self._store.running.state
        settings, found = self._store.settings, list[str]()
        counts = {kind: state.count(kind) for kind in SLOT_KINDS}
        most = max(counts, key=lambda kind: counts[kind])
        if settings.admin is not None and counts[most] > settings.metrics_entities:
            found.append(
                f"the metrics have {settings.metrics_entities} of {counts[most]} "
                f"{section_of(most)}, the "
                "first by name; settings.metrics_entities says how many"
            )
        slots = list(self._supervisor.slots)
        if any(slot.counters.gauge("uncounted_entities_now") for slot in slots):
            found.append(
                "workers have refused to count entities, since they count "
                f"{settings.max_counted_entities} already (settings.max_counted_entities); with a "
                "higher bound each is counted from its next request on"
            )
        return found + self._too_heavy(settings) + self._counting_alone(slots)

    def _too_heavy(self, settings: Settings) -> list[str]:
        """What a version without the bound has taken in goes on; a commit may only take from it."""
        weight, limit = self._store.running.state.weight(), settings.max_expression_bytes
        if weight <= limit:
            return []
        said = (
            f"all expressions take {size_of(weight)} of each worker when they are compiled, and "
            f"settings.max_expression_bytes allows {format_size(limit)}: what runs goes on, and "
            "commits that add to it are refused"
        )
        return [said]

    def _expression_bytes(self) -> int:
        try:
            with self._store.snapshot() as seen:
                return seen.state.weight()
        except (DamagedError, OSError):
            return 0

    def _counting_alone(self, slots: Sequence[Slot]) -> list[str]:
        """Bounds of requests in flight are the host's where its workers count in one memory."""
        alone = [slot.id for slot in slots if slot.counters.gauge("concurrency_alone_now")]
        if alone:
            said = (
                f"worker {', '.join(map(str, alone))} counts requests in flight by itself, without "
                "the memory that the workers of the host share: concurrency lets each of these "
                "have as many as it says"
            )
            return [said]
        count = sum(slot.counters.gauge("concurrency_alone_total") for slot in slots)
        if count:
            said = (
                f"{count} requests were counted by their workers alone, since the host's table of "
                "requests in flight had no room for whose they are: concurrency has let through "
                "more of these than it says"
            )
            return [said]
        return []

    def _counted(self) -> tuple[Wanted | None, int]:
        """The entities that have series, None for all of them, and how many have none."""
        try:
            return self._counted_now()
        except (DamagedError, OSError):
            # It is being written anew; what workers count as a whole is there.
            return Wanted(()), 0

    def _counted_now(self) -> tuple[Wanted | None, int]:
        with self._store.snapshot() as seen:
            state, limit = seen.state, seen.state.settings.metrics_entities
            left_out = sum(max(0, state.count(kind) - limit) for kind in SLOT_KINDS)
            if not left_out:
                return None, 0
            names = ((kind, state.first_names(kind, limit)) for kind in SLOT_KINDS)
            return Wanted(SlotKey(kind, name) for kind, some in names for name in some), left_out

    def health(self) -> tuple[bool, str]:
        """(healthy, one line). Healthy: all workers are in service, answer, have their sockets."""
        workers = self._supervisor.in_service.values()
        wanted = len(self._supervisor.slots)
        silent = [each.id for each in workers if each.is_silent]
        said = f"{len(workers)} of {wanted} workers in service"
        if silent:
            said += f"; worker {', '.join(map(str, silent))} does not answer"
        missing = unbound(self._supervisor)
        said = "; ".join([said, *missing[:_UNBOUND_MAX]])
        return wanted == len(workers) and not silent and not missing, said

    def live(self, changes: Sequence[Change]) -> Live:
        """What of the traffic some changes touch."""
        keys = [change.key for change in changes if change.action != "add"]
        slots = list(self._supervisor.slots)
        clients = {slot.id: slot.counters.gauge("connections_now") for slot in slots}
        field = self._fields([key for key in keys if key.kind in SERVING_KINDS], slots)
        connections = {key: field(key, "connections") for key in keys if key.kind == "backend"}
        if len(self._store.running.state.names("listener")) == 1:
            # Workers count their clients together: whose they are is known when one has them all.
            total = sum(clients.values())
            connections.update((key, total) for key in keys if key.kind == "listener")
        count = self._count_after(changes)
        return Live(
            connections,
            {key: field(key, "active") for key in keys if key.kind in SERVING_KINDS},
            {worker: open_now for worker, open_now in clients.items() if worker >= count},
            range(len(slots), count),
        )

    def _fields(self, keys: list[EntityKey], slots: list[Slot]) -> Callable[[EntityKey, str], int]:
        """How to look up one number about an entity, over all workers."""
        if len(keys) <= _LOOKED_UP_MAX:
            return lambda key, field: sum(
                slot.counters.slot_field(key.kind, key.name, field) for slot in slots
            )
        wanted = Wanted(SlotKey(key.kind, key.name) for key in keys)
        found = [slot.counters.fields(wanted) for slot in slots]
        return lambda key, field: sum(
            fields.get(SlotKey(key.kind, key.name), {}).get(field, 0) for fields in found
        )

    @cached_property
    def _registry(self) -> Any:
        from reconciler.reporting.monitoring import metrics  # noqa: PLC0415  # as above

        return metrics.registry(metrics.KakehiCollector(self._numbers, self._readings))

    def _numbers(self) -> OwnNumbers:
        from reconciler.reporting.monitoring.metrics import OwnNumbers  # noqa: PLC0415  # as above

        running = self._store.running
        slots = list(self._supervisor.slots)
        in_service = [slot.worker for slot in slots if slot.worker is not None]
        return OwnNumbers(
            generation=running.generation,
            commit=running.commit or "",
            workers=len(slots),
            workers_in_service=sum(
                worker.generation == running.generation for worker in in_service
            ),
            workers_silent=sum(worker.is_silent for worker in in_service),
            workers_former=sum(
                slot.former is not None and slot.former.process.alive for slot in slots
            ),
            restarts={slot.id: slot.restarts for slot in slots},
            following=not (self._outcomes.problem or self._source.fetch_problem),
            drifts=self._auditing.count,
            uptime_s=self._loop.time() - self._began,
            tally=self._outcomes.tally,
            expiry_days=self._expiry_days(),
            order_failures=self._certifying.failures(),
            files_silent=len(self._external.silent),
            key_failures=self._issuers.failures(),
            log_dropped=log.dropped(),
            parts={part.name: (part.state, part.restarts) for part in self._parts.all()},
            health=self._health(),
            expression_bytes=self._expression_bytes(),
            entities_left_out=self._counted()[1],
        )

    def _health(self) -> HealthNumbers | None:
        from reconciler.reporting.monitoring.metrics import HealthNumbers  # noqa: PLC0415  # as above

        report = self._probing.report
        if report is None:
            return None
        healthy = dict[str, bool]()
        with contextlib.suppress(DamagedError, OSError), self._store.snapshot() as seen:
            most = seen.state.settings.metrics_entities
            healthy = self._probing.healthy(seen.state, most)
        restarts = self._probing.restarts
        return HealthNumbers(report.checked, report.unusable, report.sums, restarts, healthy)

    def _expiry_days(self) -> dict[tuple[str, str], float]:
        now, every = datetime.now(UTC), list[Expiring]()
        with contextlib.suppress(DamagedError, OSError), self._store.snapshot() as seen:
            every = self._expiry.all(seen.state)
        return {
            (each.key.kind, each.key.name): each.left(now) / timedelta(days=1) for each in every
        }

    def _readings(self) -> dict[int, Reading]:
        wanted, _ = self._counted()
        return {slot.id: slot.counters.read(wanted) for slot in list(self._supervisor.slots)}
