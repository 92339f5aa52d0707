"""What the daemon answers: one method per request of `schemas.messages.control`.

Called by `reconciler.reporting.control_socket`, which speaks the protocol. Reads what the other
parts hold; the two that act are `drain` and `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from typing import Any

from reconciler import log
from reconciler.acme.certifying import Certifying
from reconciler.catalog.relations import DIAL, cluster_of
from reconciler.language.suggest import CANDIDATES_MAX, did_you_mean
from reconciler.parts import Part, Parts
from reconciler.patience import within
from reconciler.planning.consequences import consequences, usable
from reconciler.reporting.expiry import Expiring, Expiry
from reconciler.reporting.explain import UnexplainableError, explain, uncompilable, winners
from reconciler.reporting.reconciling import Proposes, Reconciling
from reconciler.reporting.tls_faults import FIELD, fault_of
from reconciler.reporting.waiting import NoCommitError, Waiting
from reconciler.source import left_out
from reconciler.source.following import Following
from reconciler.source.repository import NoConfigurationError, RepositoryError, UnknownCommitError
from reconciler.source.source import Changed, Head, Source
from reconciler.storage.kept.drains import Drain, Drains
from reconciler.storage.reading.running import Running
from reconciler.storage.reading.state import StoredState
from reconciler.storage.store import Store
from reconciler.workers.auditing import Auditing
from reconciler.workers.supervisor import Slot, Supervisor
from schemas.changes.plan import Verdict
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import KINDS, Entity, EntityKey
from schemas.entities.secrecy import value_without_secrets
from schemas.kinds.registry import full, units
from schemas.messages import control

# How often a drain looks whether the last request has ended.
_DRAIN_LOOK_S = 0.05
# Entities that a plan looks at although they do not change: so many take it a tenth of a second.
_WHOLE_MAX = 500
# Backends that `status` names because their handshakes fail.
_TLS_FAULTS_MAX = 10


class RefusedRequestError(Exception):
    """The answer is an error, with its code."""

    def __init__(self, code: control.ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: control.ErrorCode = code


@dataclass(slots=True)
class ControlAnswers:
    """Everything that may be asked."""

    source: Source
    store: Store
    supervisor: Supervisor
    reconciler: Reconciling
    proposing: Proposes
    waiting: Waiting
    drains: Drains
    overlaid: Callable[[], Awaitable[None]]
    following: Following
    expiry: Expiry
    auditing: Auditing
    certifying: Certifying
    parts: Parts
    further_warnings: Callable[[], list[str]]
    began: float
    fetched_at: Callable[[], str | None]
    remote: str | None
    stop: Callable[[], asyncio.Future[None]]

    async def answer(self, request: control.Request) -> Any:
        """The result, or an iterator of the parts of a line. Raises `RefusedRequestError`."""
        match request:
            case control.StatusRequest():
                return await self._status()
            case control.PlanRequest():
                return await self._plan(request)
            case control.WaitRequest():
                return await self._wait(request)
            case control.HistoryRequest(limit=limit):
                return await asyncio.to_thread(self.reconciler.outcomes.history.answer, limit)
            case control.ShowRequest():
                return self._show(request)
            case control.ExplainRequest():
                return await self._explain(request)
            case control.DrainRequest():
                return await self._drain(request)
            case control.UndrainRequest(backend=backend):
                return await self._undrain(backend)
            case control.RetryRequest():
                return self._retry()
            case control.StopRequest():
                await self.stop()
                return {}

    # Status.

    async def _status(self) -> control.StatusResult:
        # The counters of very many entities take a while to go through: not on the loop.
        faults = await asyncio.to_thread(self._tls_faults)
        drains = list(self.drains.all())
        active = await asyncio.to_thread(self._active_by_backend, [each.backend for each in drains])
        running = self.store.running
        certificates, now = self.expiry.all(), datetime.now(UTC)
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
            "entities": {kind: running.state.count(kind) for kind in KINDS},
            "drains": [_drain_status(each, active) for each in drains],
            "loading": self.reconciler.loading,
            "transaction": self._transaction(),
            "retry": self._retry_status(),
            "certificates": [_expires(each, now) for each in certificates],
            "drift": self._drift(),
            "parts": [_part(each) for each in self.parts.all()],
            "warnings": self._warnings(certificates, now) + faults,
        }

    def _drift(self) -> control.DriftStatus | None:
        last = self.auditing.last
        if last is None:
            return None
        return {
            "worker": last.worker,
            "found_at": last.found_at,
            "generation": last.generation,
            "differing": list(last.differing),
        }

    def _worker(self, slot: Slot) -> control.WorkerStatus:
        worker, former = slot.worker, slot.former
        running = self.store.running
        held = worker or former
        if worker is None:
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

    def _source(self) -> control.SourceStatus:
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

    def _transaction(self) -> control.TransactionStatus | None:
        opened, begun = self.waiting.runner.open, self.waiting.runner.begun
        if opened is None or begun is None:
            return None
        return {
            "commit": begun.commit,
            "generation": begun.generation,
            "phase": opened.phase.value,
            "waiting_for": sorted(opened.waiting),
        }

    def _retry_status(self) -> control.RetryStatus | None:
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

    def _retry(self) -> control.RetryResult:
        head, applied = self.reconciler.head, self.store.running.commit
        self.reconciler.retry()
        return {
            "commit": head.commit if head and head.commit != applied else None,
            "applied": applied,
        }

    def _warnings(self, certificates: list[Expiring], now: datetime) -> list[str]:
        warnings = [
            f"worker {slot.id}: {slot.problem}" for slot in self.supervisor.slots if slot.problem
        ]
        warnings += [
            f"worker {each.id}: it does not answer; it is replaced if it goes on like that"
            for each in self.supervisor.in_service.values()
            if each.is_silent
        ]
        warnings += [
            f"worker {slot.id}: process {slot.former.process.pid} serves until another one holds a "
            f"commit: {slot.former.reason}"
            for slot in self.supervisor.slots
            if slot.former is not None
        ]
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
        found = ((each, self._tls_fault(each)) for each in sorted(suspects))
        told = (f"backend {each}: TLS fails: {fault}" for each, fault in found if fault)
        return list(islice(told, _TLS_FAULTS_MAX))

    def _tls_fault(self, backend: str) -> str | None:
        return fault_of(backend, (slot.counters for slot in self.supervisor.slots))

    async def _wait(self, request: control.WaitRequest) -> control.WaitResult:
        try:
            return await self.waiting.wait(request)
        except NoCommitError as error:
            raise RefusedRequestError("usage", str(error)) from None

    # Questions about the configuration.

    async def _plan(self, request: control.PlanRequest) -> control.PlanResult:
        head: Head | None = None
        try:
            if request.commit is not None:
                head = self.source.head_of(request.commit)
            commit = head.commit if head and not request.files else None
            wanted = partial(self._wanted, request.files, head)
            meaning = partial(consequences, rank=winners, drained=self.drains.names())
            plan, found, base = await self.proposing.plan(wanted, commit, meaning)
            if plan is not None and len(self.store.running.state) <= _WHOLE_MAX:
                # What does not change is warned of as well.
                every = partial(wanted, whole=True)
                whole, warnings, _ = await self.proposing.plan(every, commit, meaning)
                if whole is not None:
                    plan, found = replace(plan, warnings=whole.warnings), warnings
            if plan is not None and plan.verdict is None:
                entities = [each.after for each in plan.changes if each.after is not None]
                refused = await asyncio.to_thread(next, uncompilable(entities), None)
                if refused is not None:
                    plan = replace(plan, verdict=Verdict("prepare", refused.render()))
        except NoConfigurationError as error:
            plan, base = None, self.store.running
            found = [Diagnostic("error", "", 0, 0, str(error))]
        except UnknownCommitError as error:
            raise RefusedRequestError("usage", str(error)) from None
        except RepositoryError as error:
            raise RefusedRequestError("not_found", str(error)) from None
        if plan is not None:
            # What the plan itself is warned of: the number of workers, say.
            found = [*found, *(each for each in plan.warnings if each not in found)]
        return {
            "plan": None if plan is None else dict(plan.to_json()),
            "diagnostics": [{**each.to_json(), "rendered": each.render()} for each in found],
            "base": {"commit": base.commit, "generation": base.generation},
        }

    def _wanted(
        self,
        laid_over: dict[str, str | None],
        head: Head | None,
        base: Running,
        *,
        whole: bool = False,
    ) -> Changed:
        """A commit, and files over it, against what runs. Raises `RepositoryError`.

        `whole`: with all files that do not differ from what runs.
        """
        tree = head.tree if head is not None else base.tree
        before = None if whole else base.tree
        changed = Changed({}, (), full=False, tree=base.tree)
        if tree is not None and tree != before:
            changed = self.source.changed(before, tree)
        files, overlay = dict(changed.files), dict[str, bytes | None]()
        for path, text in laid_over.items():
            content = None if text is None else text.encode("utf-8", "surrogateescape")
            name = path.encode("utf-8", "surrogateescape")
            if left_out.reason(name) == left_out.NOT_UTF8:
                continue
            kind = files if left_out.is_configuration(name) else overlay
            kind[path] = content
        return replace(
            changed, files=files, others=changed.others | overlay.keys(), overlay=overlay
        )

    def _show(self, request: control.ShowRequest) -> Generator[bytes]:
        kind, name = request.kind, request.entity
        if kind is not None and kind not in KINDS:
            kinds = ", ".join(KINDS)
            near = did_you_mean(kind, KINDS)
            message = f"there is no kind {kind!r}; {near or f'there are: {kinds}'}"
            raise RefusedRequestError("usage", message)
        with self.store.snapshot() as seen:
            result = {"generation": seen.generation, "commit": seen.commit}
            kinds_shown = KINDS if kind is None else (kind,)
            found: Iterator[Entity] = chain.from_iterable(map(seen.state.values, kinds_shown))
            if kind is not None and name is not None:
                entity = seen.state.get(EntityKey(kind, name))
                if entity is None:
                    near = _near(seen.state, kind, name)
                    message = f'there is no {kind} "{name}" running{near}'
                    raise RefusedRequestError("not_found", message)
                found = iter((entity,))
            yield from control.encode_listing(result, "entities", map(_shown, found))

    async def _explain(self, request: control.ExplainRequest) -> control.ExplainResult:
        drained = self.drains.names()
        try:
            with self.store.snapshot() as seen:
                return await asyncio.to_thread(
                    explain, request, seen.state, drained, self._tls_fault
                )
        except UnexplainableError as error:
            raise RefusedRequestError("usage", str(error)) from None

    # Drains.

    async def _drain(self, request: control.DrainRequest) -> control.DrainResult:
        if request.ttl_s is not None and request.ttl_s <= 0:
            raise RefusedRequestError("usage", "a drain must last longer than nothing")
        backends = self._meant(request.backend)
        before = [found for each in backends if (found := self.drains.get(each)) is not None]
        others = [each for each in before if each.owner != request.owner]
        try:
            self.drains.add_all(backends, request.owner, request.ttl_s)
        except OSError as error:
            log.warning("the drain will not survive a restart", reason=error.strerror or error)
        log.info("draining", backend=",".join(backends), owner=request.owner)
        drained = [found for each in backends if (found := self.drains.get(each)) is not None]
        self.reconciler.outcomes.overlaid("drained", drained)
        await self.overlaid()
        timed_out = False
        if request.wait:
            timed_out = not await self._await_idle(backends, request.timeout_s)
        return await self._drain_result(request.backend, backends, timed_out, others)

    async def _undrain(self, backend: str) -> control.DrainResult:
        host = _address_in(backend)
        backends = [backend] if host is None else self._at(*host)
        ended = [found for each in backends if (found := self.drains.get(each)) is not None]
        if not ended:
            raise RefusedRequestError("not_found", f"{backend!r} is not drained")
        try:
            self.drains.remove_all(backends)
        except OSError as error:
            log.warning("the drain will come back at a restart", reason=error.strerror or error)
        log.info("drained no longer", backend=",".join(each.backend for each in ended))
        self.reconciler.outcomes.overlaid("undrained", ended)
        await self.overlaid()
        return await self._drain_result(backend, [each.backend for each in ended], False, ())

    def _meant(self, text: str) -> list[str]:
        """The backends that are named, or are at an address. Raises `RefusedRequestError`."""
        address = _address_in(text)
        if address is not None:
            found = self._at(*address)
            if not found:
                raise RefusedRequestError("not_found", f"there is no backend at {text} running")
            return found
        state = self.store.running.state
        if state.get(EntityKey("backend", text)) is None:
            near = _near(state, "backend", text) or " (CLUSTER/BACKEND, or an address)"
            message = f"there is no backend {text!r} running{near}"
            raise RefusedRequestError("not_found", message)
        return [text]

    def _at(self, host: str, port: str) -> list[str]:
        """The backends at an address, of all clusters."""
        state = self.store.running.state
        terms = {port: state.related(DIAL, port)} if port else state.related_under(DIAL, "")
        return sorted(
            key.name
            for found in terms.values()
            for key, address in found.items()
            if address.rpartition(":")[0].strip("[]") == host
        )

    async def _await_idle(self, backends: Sequence[str], timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with within(timeout_s):
                while await self._active(backends):  # noqa: ASYNC110  # workers tell nobody
                    await asyncio.sleep(_DRAIN_LOOK_S)
        return not await self._active(backends)

    async def _active(self, backends: Sequence[str]) -> int:
        """How many requests these have in flight, over all workers."""
        return sum((await asyncio.to_thread(self._active_by_backend, backends)).values())

    def _active_by_backend(self, backends: Sequence[str]) -> dict[str, int]:
        slots = list(self.supervisor.slots)
        return {
            backend: sum(slot.counters.slot_field("backend", backend, "active") for slot in slots)
            for backend in backends
        }

    async def _drain_result(
        self, asked: str, backends: Sequence[str], timed_out: bool, others: Sequence[Drain]
    ) -> control.DrainResult:
        drain = self.drains.get(backends[0])
        drained, state = self.drains.names(), self.store.running.state
        clusters = sorted({cluster_of(EntityKey("backend", each)) for each in backends})
        return {
            "backend": asked,
            "backends": list(backends),
            "others": [asdict(each) for each in others],  # type: ignore[misc]  # the same fields
            "without_backend": [each for each in clusters if not usable(each, state, drained)],
            "drained": drain is not None,
            "active": await self._active(backends),
            "expires_at": drain.expires_at if drain else None,
            "timed_out": timed_out,
            # What was written meanwhile lies elsewhere, and goes with the daemon.
            "not_kept": self.store.place.problem,
        }


def _near(state: StoredState, kind: str, name: str) -> str:
    """The question for the entity that was meant, if that is quickly found."""
    near = None
    if state.count(kind) <= CANDIDATES_MAX:
        near = did_you_mean(name, state.names(kind))
    return f"; {near}" if near else ""


def _drain_status(drain: Drain, active: Mapping[str, int]) -> control.DrainStatus:
    return {
        "backend": drain.backend,
        "owner": drain.owner,
        "since": drain.since,
        "expires_at": drain.expires_at,
        "active": active.get(drain.backend, 0),
    }


def _part(part: Part) -> control.PartStatus:
    return {
        "name": part.name,
        "state": part.state,
        "restarts": part.restarts,
        "problem": part.problem,
    }


def _expires(certificate: Expiring, now: datetime) -> control.CertificateStatus:
    return {
        "kind": certificate.key.kind,
        "name": certificate.key.name,
        "not_after": certificate.not_after.isoformat(),
        "days_left": certificate.days_left(now),
    }


def _shown(entity: Entity) -> control.ShownEntity:
    where = entity.provenance
    value = value_without_secrets(entity.key.kind, full(entity))
    return {
        "kind": entity.key.kind,
        "name": entity.key.name,
        "value": value,
        "units": units(entity.key.kind, value),
        "source": {"file": where.file, "line": where.line, "column": where.column},
    }


def _address_in(text: str) -> tuple[str, str] | None:
    """An IP address and, where there is one, a port; None for the name of a backend."""
    host, colon, port = text.rpartition(":")
    for address, number in ((text, ""), (host, port)):
        try:
            ip = ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
        except ValueError:
            continue
        if not number or (colon and number.isascii() and number.isdecimal()):
            return str(ip), number
    return None
