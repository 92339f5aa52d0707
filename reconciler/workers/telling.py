"""What workers are told beside commits: which backends are drained, and new ticket keys.

To those in service; who comes up later is told by `reconciler.workers.bringup`. Called by
`reconciler.daemon`, for the parts that have something to tell.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from pathlib import Path

from reconciler.patience import within
from reconciler.workers.supervisor import Supervisor
from schemas.messages import wire

# Taking an overlay is one turn of a worker's event loop.
_OVERLAY_WAIT_S = 2.0


class Telling:
    """Tells all at once, and may wait for them."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._overlaying: list[asyncio.Future[wire.FromWorker]] = []

    def overlay(self, drained: Collection[str]) -> None:
        """These backends get no new requests, and all others do."""
        message = wire.Overlay(drained=list(drained))
        workers = self._supervisor.in_service.values()
        self._overlaying = [worker.link.ask(message) for worker in workers]

    async def overlaid(self) -> None:
        """Returns when every worker has taken the overlay; one that hangs is not waited for."""
        if self._overlaying:
            with contextlib.suppress(TimeoutError):
                async with within(_OVERLAY_WAIT_S):
                    await asyncio.wait(self._overlaying)

    def ticket_keys(self, path: Path) -> None:
        """There are others in this file."""
        message = wire.TicketKeys(path=str(path))
        for worker in self._supervisor.in_service.values():
            # A worker that is gone by now gets them when its successor is brought up.
            worker.link.ask(message).add_done_callback(asyncio.Future.exception)
