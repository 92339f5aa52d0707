"""Who is limited now, and who begins anew: every worker is asked, and told once for the host.

A limit is one that runs: what workers remember of others, or a request still has, is not told.
Called by `reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reconciler.catalog.relations import USE, use_term
from reconciler.language.suggest import did_you_mean
from reconciler.patience import within
from reconciler.reporting.control.draining import unheard
from reconciler.reporting.control.refusals import RefusedRequestError
from reconciler.storage.reading.state import StoredState
from reconciler.storage.store import Store
from reconciler.workers.counting.readings import SlotKey, Wanted, added
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.slots.supervisor import Supervisor
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.policy import Policy
from schemas.messages import control, results, wire
from schemas.policies.rate import each_of

ROWS_MAX = 1000
"""So many are told, those who have to wait longest or have most; of others there is a count."""
_ANSWER_WAIT_S = 5.0
_CROWD = "concurrency"
_NAMED_MAX = 20
"""Nobody reads more names of limits than that in a message."""
_LOOKED_AT_MAX = 1000
"""Of more entities it is not looked up which limits they have."""


@dataclass(slots=True)
class Limiting:
    """What workers say of those whom they refuse and count."""

    supervisor: Supervisor
    store: Store

    async def answer(self, request: control.LimitsRequest) -> results.LimitsResult:
        """Ask all of them at once; one that does not answer, or is led no more, is named.

        Raises `RefusedRequestError`.
        """
        running = RunningLimits(self.store.running.state)
        if request.limit is not None:
            running.require(request.limit)
        message = wire.Limits(limit=request.limit, who=request.who, forgive=request.forgive)
        workers = sorted(self.supervisor.in_service.values(), key=lambda worker: worker.id)
        found = await asyncio.gather(*(self._ask(worker, message) for worker in workers))
        silent = [worker for worker, told in zip(workers, found, strict=True) if told is None]
        told = [each for each in found if each is not None]
        limited = _limited(running, (row for each in told for row in each.limited))
        in_flight = _in_flight(running, (row for each in told for row in each.in_flight))
        return {
            "limited": limited[:ROWS_MAX],
            "more": max(0, len(limited) - ROWS_MAX),
            "in_flight": in_flight[:ROWS_MAX],
            "more_in_flight": max(0, len(in_flight) - ROWS_MAX),
            "policies": self._counts(),
            "forgiven": request.forgive,
            "unanswered": [worker.id for worker in silent],
            "unheard": unheard(self.supervisor, silent),
        }

    def _counts(self) -> list[results.PolicyCounts]:
        """What policies have counted; of as many as have series in the metrics."""
        state = self.store.running.state
        names = state.first_names("policy", state.settings.metrics_entities)
        wanted = Wanted(SlotKey("policy", name) for name in names)
        total: dict[str, dict[str, int]] = {}
        for slot in self.supervisor.slots:
            for key, fields in slot.counters.fields(wanted).items():
                total[key.name] = added(total.get(key.name, {}), fields)
        return [
            {
                "policy": name,
                "rate_limited": fields.get("rate_limited", 0),
                "crowded": fields.get("crowded", 0),
                "dry_run": fields.get("dry_run", 0),
            }
            for name, fields in sorted(total.items())
            if any(fields.values())
        ]

    async def _ask(self, worker: Worker, message: wire.Limits) -> wire.Limited | None:
        if worker.is_foreign:
            return None
        with contextlib.suppress(WorkerGoneError, TimeoutError):
            async with within(_ANSWER_WAIT_S):
                reply = await worker.link.ask(message)
            if isinstance(reply, wire.Limited):
                return reply
        return None


class RunningLimits:
    """The limits that run, by name, as they are asked for."""

    def __init__(self, state: StoredState) -> None:
        self._state = state
        self._known: dict[tuple[str, str], dict[str, int | None]] = {}

    def has_rate(self, limit: str) -> bool:
        """Say whether there is a rate of this name."""
        found = self._of(limit)
        return found.get(limit, 0) is None

    def most(self, limit: str) -> int | None:
        """Return how many requests a bound of this name lets in at a time; None: it is none."""
        return self._of(limit).get(limit)

    def require(self, limit: str) -> None:
        """Raises `RefusedRequestError` that says what there is, unless it is a rate."""
        if self.has_rate(limit):
            return
        if self.most(limit) is not None:
            message = f'"{limit}" bounds requests in flight, which end by themselves'
            raise RefusedRequestError("usage", message)
        kind, _, name = limit.rpartition("/")[0].partition("/")
        there = self._rates((EntityKey(kind, name),)) if name else []
        if not there:
            there = self._all_rates()
        message = f'no rate limit that runs is called "{limit}"'
        if meant := did_you_mean(limit, there):
            message += f"; {meant}"
        elif there:
            more = ", …" if len(there) > _NAMED_MAX else ""
            message += f"; there are: {', '.join(there[:_NAMED_MAX])}{more}"
        raise RefusedRequestError("not_found", message)

    def _all_rates(self) -> list[str]:
        kinds = ("policy", "frontend")
        if sum(map(self._state.count, kinds)) > _LOOKED_AT_MAX:
            return []
        keys = (EntityKey(kind, name) for kind in kinds for name in self._state.names(kind))
        return self._rates(keys)

    def _rates(self, keys: Iterable[EntityKey]) -> list[str]:
        return [
            limit
            for key in keys
            for limit, most in self._said(key.kind, key.name).items()
            if most is None
        ]

    def _of(self, limit: str) -> dict[str, int | None]:
        """Return all limits of whoever says this one."""
        kind, _, rest = limit.partition("/")
        # Neither a name nor what a limit is called there has a slash.
        return self._said(kind, rest.partition("/")[0])

    def _said(self, kind: str, name: str) -> dict[str, int | None]:
        """Return the limits of an entity: of a rate None, of a bound how many there may be."""
        known = self._known.get((kind, name))
        if known is None:
            entity = self._state.get(EntityKey(kind, name))
            said = _limits(entity) if entity is not None and self._is_in_service(entity) else ()
            known = self._known[kind, name] = dict(said)
        return known

    def _is_in_service(self, entity: Entity) -> bool:
        """Nothing is asked for by a policy that nobody names."""
        if entity.key.kind != "policy":
            return True
        term = use_term(entity.key)
        return term in self._state.related_under(USE, term, 1)


def _limits(entity: Entity) -> Iterator[tuple[str, int | None]]:
    says: Frontend | Policy
    match entity.key.kind:
        case "frontend":
            says = entity.typed(Frontend)
        case "policy":
            says = entity.typed(Policy)
        case _:
            return
    owner = f"{entity.key.kind}/{entity.key.name}"
    if says.concurrency is not None:
        yield f"{owner}/{_CROWD}", says.concurrency.requests
    for rate in each_of(says.rate_limit):
        yield f"{owner}/{rate.called()}", None


def _limited(
    running: RunningLimits, rows: Iterable[wire.LimitedRow]
) -> list[results.LimitedClient]:
    """Whoever was refused by several workers is one: a rate is the host's."""
    found: dict[tuple[str, str], results.LimitedClient] = {}
    for row in rows:
        if not running.has_rate(row.limit):
            continue
        known = found.setdefault(
            (row.limit, row.who), {"limit": row.limit, "who": row.who, "wait_ms": 0, "refused": 0}
        )
        known["wait_ms"] = max(known["wait_ms"], row.wait_ms)
        known["refused"] += row.refused
    return sorted(found.values(), key=lambda row: (-row["wait_ms"], row["limit"], row["who"]))


def _in_flight(
    running: RunningLimits, rows: Iterable[wire.InFlightRow]
) -> list[results.CrowdInFlight]:
    found: dict[tuple[str, str], results.CrowdInFlight] = {}
    for row in rows:
        most = running.most(row.limit)
        if most is None:
            continue
        known = found.setdefault(
            (row.limit, row.who), {"limit": row.limit, "who": row.who, "requests": 0, "most": most}
        )
        known["requests"] += row.requests
    return sorted(
        found.values(), key=lambda row: (-row["requests"] / row["most"], row["limit"], row["who"])
    )
