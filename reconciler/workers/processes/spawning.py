"""Starts a worker's process, and tells whether a process is one.

A worker is our child and nobody else's: it lives on when the process that has forked it ends
(`reconciler.workers.processes.forking`), and when we do. Called by
`reconciler.workers.slots.tending`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from pathlib import Path

from reconciler.errors import MachineError
from reconciler.workers.processes import worker_sockets
from reconciler.workers.processes.forking import zygote
from schemas.messages.zygote import PROBER

_COMM_BYTES = 15


def spawn(path: Path, worker: int, cpu: int) -> int:
    """Starts a worker (or, as `PROBER`, the prober) that listens at `path`; returns its process.

    Raises `MachineError`.
    """
    try:
        with worker_sockets.listen(path) as control:
            return zygote.fork(worker, cpu, control)
    except OSError as error:
        reason = error.strerror or str(error)
        what = "the prober" if worker == PROBER else f"worker {worker}"
        raise MachineError(f"cannot start {what}: {reason}") from error


async def spawn_in_thread(path: Path, worker: int, cpu: int) -> int:
    """Like `spawn`; a worker that comes when nobody waits for it any more is ended at once."""
    waited = threading.Lock()
    made: list[int] = []
    is_wanted = True

    def run() -> int:
        child = spawn(path, worker, cpu)
        with waited:
            made.append(child)
            if not is_wanted:
                _end(child)
        return child

    try:
        return await asyncio.to_thread(run)
    except asyncio.CancelledError:
        with waited:
            is_wanted = False
            for child in made:
                _end(child)
        raise


def _end(child: int) -> None:
    """Ends a child that nobody knows of, and takes its exit code."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def is_worker(pid: int, worker: int) -> bool:
    """Whether a process really is this worker, before it is signalled by its number."""
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return name == f"kakehi-w{worker}".encode()[:_COMM_BYTES] and b"proxy" in words
