"""The file in which the prober writes what it finds of backends, and workers read it.

Its layout is the engine's (`upstream/health`). It is made when something is checked first, and
handed to workers then; without it nobody has been checked yet. Called by
`reconciler.workers.probing` and `reconciler.workers.slots.bringup`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from reconciler import log
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.telling.host_table import HostTable, Layout
from schemas.messages import wire
from schemas.messages.files import identity

TABLE_BYTES = 4096 + 4 * 131_072 * 8
"""A page, and four words for each of the places."""

_LAYOUT = Layout(
    file="health",
    magic=b"kakehi health 1\n",
    kept_bytes=TABLE_BYTES,
    whole_bytes=TABLE_BYTES,
    known_bytes=(TABLE_BYTES,),
    otherwise="what is found of backends cannot be written: none counts as checked",
)


class HealthTableKeeper(HostTable):
    """The file of one host, and whether anybody needs it."""

    def __init__(self, runtime_dir: Path) -> None:
        super().__init__(runtime_dir, _LAYOUT)
        self.is_wanted = False
        """Whether anything is checked."""

    def tell(self, workers: Iterable[Worker]) -> None:
        """Hand it to these, and wait for none of them."""
        for worker in workers:
            with self.opened() as file:
                if file is not None and worker.health_table != identity(file):
                    taken = worker.link.ask(wire.HealthTable(), [file])
                    worker.health_table = identity(file)
                    taken.add_done_callback(_heard)


def _heard(taken: asyncio.Future[wire.FromWorker]) -> None:
    if taken.cancelled() or isinstance(taken.exception(), WorkerGoneError):
        return
    reply = taken.result()
    if isinstance(reply, wire.HealthTableTaken) and reply.problem:
        log.warning("a worker does not see who is healthy", reason=reply.problem)
