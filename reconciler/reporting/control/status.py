"""What `status` tells: what runs, who runs it, and what is to be said of both.

Called by `reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from reconciler import log
from reconciler.acme.certifying import Certifying
from reconciler.issuers.keeping import IssuerKeys
from reconciler.parts import Part, Parts
from reconciler.reporting.control.draining import Draining
from reconciler.reporting.control.reconciling import Reconciling
from reconciler.reporting.expiry import Expiring, Expiry
from reconciler.reporting.tls_faults import FIELD, fault_of
from reconciler.source.following import Following
from reconciler.source.source import Source
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.drains import Drain
from reconciler.storage.store import Store
from reconciler.transaction.runner import Runner
from reconciler.workers.slots.former import Former
from reconciler.workers.slots.slot import Slot
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.watching.auditing import Auditing
from reconciler.workers.watching.binding import bound_nowhere
from reconciler.workers.watching.without import without
from schemas.entities.entity import KINDS, EntityKey
from schemas.messages import status

# Backends that are named because their handshakes fail.
_TLS_FAULTS_MAX = 10


@dataclass(slots=True)
class Status:
    """Reads what the other parts hold."""

    source: Source
    store: Store
    supervisor: Supervisor
    reconciler: Reconciling
    runner: Runner
    draining: Draining
    following: Following
    expiry: Expiry
    auditing: Auditing
    certifying: Certifying
    issuers: IssuerKeys
    parts: Parts
    further_warnings: Callable[[], list[str]]
    unserved: Callable[[], list[str]]
    """Those of them that tell what of the configuration the machine does not give."""
    unhealthy: Callable[[], list[str]]
    """Of backends that get no requests since checks say so."""
    began: float
    fetched_at: Callable[[], str | None]
    remote: str | None

    async def answer(self) -> status.StatusResult:
        """Everything that `status` tells, as it is now."""
        # The counters of very many entities take a while to go through: not on the loop.
        faults = await asyncio.to_thread(self._tls_faults)
        drains = list(self.draining.drains.all())
        active: Mapping[str, int] = {}
        if drains:
            drained = [each.backend for each in drains]
            active = await asyncio.to_thread(self.draining.active_by_backend, drained)
        running, now = self.store.running, datetime.now(UTC)
        warnings, counts = list[str](), dict[str, int]()
        certificates: list[Expiring] = []
        try:
            certificates = self.expiry.all()
            counts = {kind: running.state.count(kind) for kind in KINDS}
            warnings = self._warnings(certificates, now)
        except (DamagedError, OSError) as error:
            # Until it is written anew; all else is known.
            reason = self.store.place.problem or error
            warnings = [f"what runs cannot be read: {reason}", *self.store.notes.told()]
        return {
            "commit": running.commit,
            "generation": running.generation,
            "digest": running.state.digest,
            "workers": [self._worker(slot) for slot in self.supervisor.slots],
            "last_error": self.reconciler.outcomes.last_error,
            "epoch": self.store.epoch,
            "pid": os.getpid(),
            "ref": self.source.shown_ref,
            "source": self._source(),
            "applied_at": running.applied_at,
            "uptime_s": int(asyncio.get_running_loop().time() - self.began),
            "entities": counts,
            "drains": [_drain_status(each, active) for each in drains],
            "loading": self.reconciler.loading,
            "transaction": self._transaction(),
            "retry": self._retry_status(),
            "certificates": [_expires(each, now) for each in certificates],
            "drift": self._drift(),
            "parts": [_part(each) for each in self.parts.all()],
            "warnings": warnings + faults + self.unhealthy(),
        }

    def _drift(self) -> status.DriftStatus | None:
        last = self.auditing.last
        if last is None:
            return None
        return {
            "worker": last.worker,
            "found_at": last.found_at,
            "generation": last.generation,
            "differing": list(last.differing),
        }

    def _worker(self, slot: Slot) -> status.WorkerStatus:
        worker, former = slot.worker, slot.former
        running = self.store.running
        held = worker or former
        if slot.stands_by and former is not None and former.process.alive:
            # Whoever asks wants to know who serves.
            held, state = former, "former"
        elif slot.stands_by:
            state = "standing by"
        elif worker is None:
            state = "starting" if former is None else "former"
        elif worker.is_silent:
            state = "silent"
        elif worker.generation == running.generation:
            state = "running"
        else:
            state = "behind"
        return {
            "id": slot.id,
            "pid": held.process.pid if held else slot.pid,
            "cpu": worker.cpu if worker else slot.cpu,
            "generation": held.generation if held else 0,
            "digest": held.digest if held else "0" * 32,
            "connections": slot.counters.gauge("connections_now"),
            "requests": slot.counters.gauge("requests_now"),
            "commit": held.commit if held else "",
            "state": state,
            "restarts": slot.restarts,
        }

    def _source(self) -> status.SourceStatus:
        head, problem = self.reconciler.head, self.reconciler.problem
        return {
            "state": "following" if problem is None else "holding",
            "directory": str(self.source.directory),
            "ref": self.source.shown_ref,
            "head": head.commit if head else None,
            "problem": problem,
            "remote": self.remote,
            "fetched_at": self.fetched_at(),
            "fetch_problem": self.source.fetch_problem,
        }

    def _transaction(self) -> status.TransactionStatus | None:
        opened, begun = self.runner.open, self.runner.begun
        if opened is None or begun is None:
            return None
        return {
            "commit": begun.commit,
            "generation": begun.generation,
            "phase": opened.phase.value,
            "waiting_for": sorted(opened.waiting),
        }

    def _retry_status(self) -> status.RetryStatus | None:
        retrying, head = self.reconciler.retrying, self.reconciler.head
        commit = head.commit if head else self.store.running.commit
        if not retrying.is_waiting or commit is None:
            return None
        return {
            "commit": commit,
            "reason": retrying.reason,
            "attempts": retrying.attempts,
            "next_s": round(retrying.left_s(asyncio.get_running_loop().time()), 1),
        }

    def _warnings(self, certificates: list[Expiring], now: datetime) -> list[str]:
        warnings = [
            f"worker {slot.id}: {slot.problem}" for slot in self.supervisor.slots if slot.problem
        ]
        warnings += self.silent()
        warnings += [
            _of_former(slot.former)
            for slot in self.supervisor.slots
            if slot.former is not None and slot.former.process.alive
        ]
        warnings += [f"{key}: {said}" for key, said in self.without().items()]
        warnings += self.expiry.overdue(now)
        warnings += self.expiry.withdrawn()
        warnings += self.store.notes.told()
        others = (
            self.store.place.problem,
            self.following.warning(self.source),
            self.reconciler.outcomes.repository_warning,
            log.dropping(),
        )
        warnings += [each for each in others if each]
        warnings += [text for each in certificates if (text := each.warning(now)) is not None]
        warnings += self.certifying.warnings()
        warnings += self.issuers.warnings()
        warnings += self.parts.warnings()
        warnings += self.further_warnings()
        warnings += self.reconciler.not_taken_over()
        return warnings

    def _tls_faults(self) -> list[str]:
        """Backends whose handshakes fail, the first of them: in an outage they all do."""
        suspects = {
            backend
            for slot in self.supervisor.slots
            for backend in slot.counters.with_code("backend", FIELD)
        }
        found = ((each, self.tls_fault(each)) for each in sorted(suspects))
        told = (f"backend {each}: TLS fails: {fault}" for each, fault in found if fault)
        return list(islice(told, _TLS_FAULTS_MAX))

    def silent(self) -> list[str]:
        """What is to be said of workers that do not answer: a commit waits for them."""
        return [
            f"worker {each.id}: it does not answer; it is replaced if it goes on like that"
            for each in self.supervisor.in_service.values()
            if each.is_silent
        ]

    def not_listening(self) -> dict[str, str]:
        """The listeners that nobody can connect to, and what is to be said of each."""
        return bound_nowhere(self.supervisor)

    def without(self) -> dict[EntityKey, str]:
        """The entities that some worker takes no requests for, since a file of theirs is lost."""
        return without(self.supervisor, self.store.running.state)

    def tls_fault(self, backend: str) -> str | None:
        """Why handshakes with a backend fail, when they do."""
        return fault_of(backend, (slot.counters for slot in self.supervisor.slots))


def _of_former(former: Former) -> str:
    who = f"worker {former.id}: process {former.process.pid}"
    if former.holds_more:
        until = "serves on as it is until a commit is applied, and hears of no drain"
        return f"{who} {until}: {former.reason}"
    return f"{who} serves until another one holds a commit: {former.reason}"


def _drain_status(drain: Drain, active: Mapping[str, int]) -> status.DrainStatus:
    return {
        "backend": drain.backend,
        "owner": drain.owner,
        "since": drain.since,
        "expires_at": drain.expires_at,
        "active": active.get(drain.backend, 0),
    }


def _part(part: Part) -> status.PartStatus:
    return {
        "name": part.name,
        "state": part.state,
        "restarts": part.restarts,
        "problem": part.problem,
    }


def _expires(certificate: Expiring, now: datetime) -> status.CertificateStatus:
    return {
        "kind": certificate.key.kind,
        "name": certificate.key.name,
        "not_after": certificate.not_after.isoformat(),
        "days_left": certificate.days_left(now),
    }
