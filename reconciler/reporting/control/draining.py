"""Draining a backend, or all at an address, and taking it back: by an operator's request.

Called by `reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from reconciler import log
from reconciler.catalog.fallbacks import served_by, usable
from reconciler.catalog.relations import DIAL, cluster_of, is_aside
from reconciler.patience import within
from reconciler.reporting.control.refusals import RefusedRequestError, near
from reconciler.reporting.outcomes import Outcomes
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.drains import Drain, Drains
from reconciler.storage.store import Store
from reconciler.workers.linked.worker import Worker
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.telling.overlay import Overlaying
from schemas.entities.entity import EntityKey
from schemas.messages import control, results

# How often a drain looks whether the last request has ended.
_DRAIN_LOOK_S = 0.05


@dataclass(slots=True)
class Draining:
    """What `drain` and `undrain` do."""

    store: Store
    supervisor: Supervisor
    drains: Drains
    overlaying: Overlaying
    outcomes: Outcomes
    left_unhealthy: Callable[[Iterable[str]], list[str]]
    """The clusters of backends whose others are not healthy, every one."""

    async def drain(self, request: control.DrainRequest) -> results.DrainResult:
        """Raises `RefusedRequestError`."""
        if request.ttl_s is not None and request.ttl_s <= 0:
            raise RefusedRequestError("usage", "a drain must last longer than nothing")
        backends = self._meant(request.backend)
        before = [found for each in backends if (found := self.drains.get(each)) is not None]
        others = [each for each in before if each.owner != request.owner]
        until = _after(request.ttl_s)
        try:
            self.drains.add_all(backends, request.owner, request.ttl_s)
        except OSError as error:
            log.warning("the drain will not survive a restart", reason=error.strerror or error)
        log.info("draining", backend=",".join(backends), owner=request.owner)
        drained = [found for each in backends if (found := self.drains.get(each)) is not None]
        self.outcomes.overlaid("drained", drained)
        await self.store.settled()
        await self.overlaying.taken()
        timed_out = False
        if request.wait:
            timed_out = not await self._await_idle(backends, request.timeout_s)
        ended: list[results.EndedDrain] = [
            {"backend": each, "how": "expired" if until <= datetime.now(UTC) else "undrained"}
            for each in self._not_drained(backends)
        ]
        return await self._result(request.backend, backends, timed_out, others, ended)

    async def undrain(self, request: control.UndrainRequest) -> results.DrainResult:
        """Of one backend, or of all at an address. Raises `RefusedRequestError`."""
        backend = request.backend
        host = _address_in(backend)
        backends = [backend] if host is None else self._at(*host)
        ended = [found for each in backends if (found := self.drains.get(each)) is not None]
        if not ended:
            raise RefusedRequestError("not_found", f"{backend!r} is not drained")
        try:
            self.drains.remove_all(backends)
        except OSError as error:
            log.warning("the drain will come back at a restart", reason=error.strerror or error)
        names = ",".join(each.backend for each in ended)
        log.info("drained no longer", backend=names, by=request.owner)
        self.outcomes.overlaid("undrained", ended, request.owner)
        await self.store.settled()
        await self.overlaying.taken()
        return await self._result(backend, [each.backend for each in ended])

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
            meant = near(state, "backend", text) or " (CLUSTER/BACKEND, or an address)"
            message = f"there is no backend {text!r} running{meant}"
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
                while not await self._is_idle(backends):  # noqa: ASYNC110  # workers tell nobody
                    await asyncio.sleep(_DRAIN_LOOK_S)
        return await self._is_idle(backends)

    def _not_drained(self, backends: Sequence[str]) -> list[str]:
        return [each for each in backends if self.drains.get(each) is None]

    async def _is_idle(self, backends: Sequence[str]) -> bool:
        """Whether there is nothing to wait for; so it is, too, where a drain has ended."""
        if self._not_drained(backends):
            return True
        if not self.supervisor.counts_all:
            return False
        # Workers may have been left while they were read.
        return await self._active(backends) == 0 and self.supervisor.counts_all

    async def _active(self, backends: Sequence[str]) -> int:
        """How many requests these have in flight, over all workers."""
        return sum((await asyncio.to_thread(self.active_by_backend, backends)).values())

    def active_by_backend(self, backends: Sequence[str]) -> dict[str, int]:
        """How many requests each has in flight; for any thread."""
        slots = list(self.supervisor.slots)
        return {
            backend: sum(slot.counters.slot_field("backend", backend, "active") for slot in slots)
            for backend in backends
        }

    async def _result(
        self,
        asked: str,
        backends: Sequence[str],
        timed_out: bool = False,
        others: Sequence[Drain] = (),
        ended: Sequence[results.EndedDrain] = (),
    ) -> results.DrainResult:
        drain = self.drains.get(backends[0])
        drained, state = self.drains.names(), self.store.running.state
        clusters = sorted({cluster_of(EntityKey("backend", each)) for each in backends})
        without, unnoticed = list[str](), list[str]()
        served = dict[str, str]()
        # It is done: that something beside it cannot be read makes no error of it.
        with contextlib.suppress(DamagedError, OSError):
            without = [each for each in clusters if not usable(each, state, drained)]
            unnoticed = [each for each in without if is_aside(state, each)]
            found = ((each, served_by(each, state, drained)) for each in without)
            served = {each: by for each, by in found if by is not None}
        return {
            "backend": asked,
            "backends": list(backends),
            "others": [asdict(each) for each in others],  # type: ignore[misc]  # the same fields
            "without_backend": without,
            "unnoticed": unnoticed,
            "served_by": served,
            "left_unhealthy": [each for each in self.left_unhealthy(drained) if each in clusters],
            "unheard": unheard(self.supervisor, self.overlaying.untold()),
            "ended": list(ended),
            "drained": not self._not_drained(backends),
            "active": await self._active(backends),
            "expires_at": drain.expires_at if drain else None,
            "timed_out": timed_out,
            # What was written meanwhile lies elsewhere, and goes with the daemon.
            "not_kept": self.store.place.problem,
        }


def unheard(supervisor: Supervisor, silent: Iterable[Worker]) -> list[results.Unheard]:
    """The workers that serve without hearing of what is said to all: some that do not answer."""
    found: list[results.Unheard] = [
        {"worker": each.id, "pid": each.process.pid, "reason": each.reason}
        for each in supervisor.formers()
    ]
    for worker in silent:
        reason = "it does not answer"
        found.append({"worker": worker.id, "pid": worker.process.pid, "reason": reason})
    return sorted(found, key=lambda each: (each["worker"], each["pid"]))


def _after(ttl_s: float | None) -> datetime:
    """When a drain that begins now is over."""
    last = datetime.max.replace(tzinfo=UTC)
    return last if ttl_s is None else datetime.now(UTC) + timedelta(seconds=ttl_s)


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
