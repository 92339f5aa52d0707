"""Who is limited now, and who begins anew: asked of every worker, each of whom it has refused.

Called by `reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import asyncio
import contextlib

from reconciler.patience import within
from reconciler.reporting.control.draining import unheard
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.slots.supervisor import Supervisor
from schemas.messages import control, results, wire

ROWS_MAX = 1000
"""So many are told, those who have to wait longest; of others there is a count."""
_ANSWER_WAIT_S = 5.0


class Limiting:
    """What workers say of those whom they have refused."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def answer(self, request: control.LimitsRequest) -> results.LimitsResult:
        """Ask all of them at once; one that does not answer, or is led no more, is named."""
        message = wire.Limits(limit=request.limit, who=request.who, forgive=request.forgive)
        workers = sorted(self._supervisor.in_service.values(), key=lambda worker: worker.id)
        found = await asyncio.gather(*(self._ask(worker, message) for worker in workers))
        silent = [worker for worker, told in zip(workers, found, strict=True) if told is None]
        rows: list[results.LimitedClient] = []
        for worker, told in zip(workers, found, strict=True):
            rows += [
                {
                    "limit": row.limit,
                    "who": row.who,
                    "worker": worker.id,
                    "wait_ms": row.wait_ms,
                    "refused": row.refused,
                }
                for row in told or ()
            ]
        rows.sort(key=lambda row: (-row["wait_ms"], row["limit"], row["who"], row["worker"]))
        return {
            "limited": rows[:ROWS_MAX],
            "more": max(0, len(rows) - ROWS_MAX),
            "forgiven": request.forgive,
            "unanswered": [worker.id for worker in silent],
            "unheard": unheard(self._supervisor, silent),
        }

    async def _ask(self, worker: Worker, message: wire.Limits) -> list[wire.LimitedRow] | None:
        if worker.is_foreign:
            return None
        with contextlib.suppress(WorkerGoneError, TimeoutError):
            async with within(_ANSWER_WAIT_S):
                reply = await worker.link.ask(message)
            if isinstance(reply, wire.Limited):
                return reply.limited
        return None
