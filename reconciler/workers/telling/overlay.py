"""Tells workers which backends are drained.

All of those in service at once; who comes up later is told by `reconciler.workers.slots.bringup`.
Called by `reconciler.daemon` when a drain begins or ends, and waited for by
`reconciler.reporting.control.draining`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from reconciler.patience import within
from reconciler.storage.kept.drains import Drains
from reconciler.workers.linked.worker import Worker
from schemas.messages import wire

# Taking an overlay is one turn of a worker's event loop.
_TAKEN_WAIT_S = 2.0


def overlay_of(drains: Drains) -> wire.Overlay:
    """What workers are told of the drained backends, whoever tells them."""
    return wire.Overlay(drained=drains.names(), ends=drains.ends(), kept=drains.text)


class Overlaying:
    """The last overlay, and who has not taken it yet."""

    def __init__(self, workers: Callable[[], Iterable[Worker]]) -> None:
        self._workers = workers
        self._asked: list[tuple[Worker, asyncio.Future[wire.FromWorker]]] = []

    def tell(self, message: wire.Overlay) -> None:
        """Its backends get no new requests, and all others do."""
        self._asked = [(worker, worker.link.ask(message)) for worker in self._workers()]

    async def taken(self) -> None:
        """Returns when every worker has taken it; one that hangs is not waited for."""
        if self._asked:
            with contextlib.suppress(TimeoutError):
                async with within(_TAKEN_WAIT_S):
                    await asyncio.wait([taken for _, taken in self._asked])

    def untold(self) -> list[Worker]:
        """Those who have not taken it yet: they hang."""
        return [worker for worker, taken in self._asked if not taken.done()]
