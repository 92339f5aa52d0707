"""Listeners that could not be bound when their worker came into service: tried again.

A state that runs is not given up for one address that somebody has taken meanwhile, or that the
machine has no more: workers serve all other listeners, `status` and `/healthz` tell of this one,
and it serves as soon as it can be bound. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio

from reconciler import log
from reconciler.parts import heard_again_within, until_turn
from reconciler.storage.store import Store
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.slots.bringup import Bringup
from reconciler.workers.slots.supervisor import Supervisor
from schemas.entities.entity import EntityKey
from schemas.kinds.listener import Listener

TURN_S = 1.0
_TURN_WITHIN_S = 60.0


class Binding:
    """Goes round the workers in service."""

    def __init__(self, supervisor: Supervisor, bringup: Bringup, store: Store) -> None:
        self._supervisor = supervisor
        self._bringup = bringup
        self._store = store

    async def run(self) -> None:
        """Try again every second, until cancelled."""
        while True:
            heard_again_within(_TURN_WITHIN_S)
            await asyncio.sleep(until_turn(TURN_S))
            if any(worker.unbound for worker in self._supervisor.in_service.values()):
                async with self._supervisor.exclusive:
                    for worker in self._supervisor.in_service.values():
                        await self._bind(worker)

    async def _bind(self, worker: Worker) -> None:
        if not worker.unbound:
            return
        state, before = self._store.running.state, worker.unbound
        found = {name: state.get(EntityKey("listener", name)) for name in before}
        wanted = {name: entity.typed(Listener).address for name, entity in found.items() if entity}
        try:
            await self._bringup.bind(worker, wanted)
        except WorkerGoneError as error:
            # Its slot hears of that as well.
            log.warning("listeners were not bound", worker=worker.id, reason=error)
            return
        for name in wanted.keys() - worker.unbound.keys():
            log.info("a listener takes connections again", worker=worker.id, listener=name)


def unbound(supervisor: Supervisor) -> list[str]:
    """Return a sentence for each listener that takes no connections at some worker."""
    reasons = {
        name: reason
        for worker in supervisor.in_service.values()
        for name, reason in worker.unbound.items()
    }
    return [
        f"{told_of(name, reason)}; this is tried again every second"
        for name, reason in sorted(reasons.items())
    ]


def bound_nowhere(supervisor: Supervisor) -> dict[str, str]:
    """Return the listeners that take connections at no worker, and why."""
    first, *others = [worker.unbound for worker in supervisor.in_service.values()] or [{}]
    return {
        name: told_of(name, reason)
        for name, reason in first.items()
        if all(name in each for each in others)
    }


def told_of(name: str, reason: str) -> str:
    """Return what is said of such a listener."""
    return f'listener "{name}" takes no connections: {reason}'
