"""Workers on their way out: drained, and ended by force when that takes too long.

Called by `tending` and `supervisor` beside.
"""

from __future__ import annotations

import asyncio
import signal

from reconciler import log
from reconciler.workers.slots.former import Former

# How much longer than its drain a leaving worker may live.
_LEAVING_GRACE_S = 5.0


class LeavingWorkers:
    """All of one daemon, until they have ended."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], int] = {}

    @property
    def pids(self) -> set[int]:
        """The processes that have not ended yet."""
        return set(self._tasks.values())

    def see_off(self, former: Former, drain_ms: int) -> None:
        """Let one that served until now end behind its last request."""
        if not former.process.alive:
            return
        log.info("draining a former worker", worker=former.id, pid=former.process.pid)
        self.drain(former, drain_ms)

    def drain(self, worker: Former, drain_ms: int) -> None:
        """Tell it to end, and see that it does."""
        worker.drain(drain_ms)
        self.await_end(worker, drain_ms)

    def await_end(self, worker: Former, drain_ms: int) -> None:
        """See that one ends that drains already."""
        task = asyncio.get_running_loop().create_task(_await_end(worker, drain_ms / 1000))
        self._tasks[task] = worker.process.pid
        task.add_done_callback(self._tasks.pop)

    async def ended(self) -> None:
        """Returns when all have."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def kill(self) -> None:
        """Ends what is still draining, now."""
        for task in self._tasks:
            task.cancel()


async def _await_end(worker: Former, drain_s: float) -> None:
    """Waits for a leaving worker to end, by force when it takes too long or we are cancelled."""
    try:
        if not await worker.process.wait(drain_s + _LEAVING_GRACE_S):
            log.warning("a leaving worker had to be ended", worker=worker.id)
    finally:
        worker.process.signal(signal.SIGKILL)
        if worker.link is not None:
            worker.link.close("it has left")
