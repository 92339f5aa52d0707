"""Orphans: workers that serve while no daemon runs, after SIGTERM or a crash of the daemon.

The next daemon adopts them; until then `kakehi status` tells of them, and `kakehi stop` ends them.
Known by who listens at their control sockets, never by a number that was written down. Called by
`reconciler.cli`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from reconciler.storage.place import lock_directory
from reconciler.workers import spawning
from reconciler.workers.link import connect


def find(runtime_dir: Path) -> dict[int, int]:
    """Return the process of each worker that listens, by the worker's number."""
    found: dict[int, int] = {}
    for path in (runtime_dir / spawning.WORKERS_DIRECTORY).glob("*.sock"):
        if not path.stem.isdecimal():
            continue
        answered = connect(path)
        if answered is None:
            continue
        connection, pid = answered
        connection.close()
        if spawning.is_worker(pid, int(path.stem)):
            found[int(path.stem)] = pid
    return dict(sorted(found.items()))


def end(runtime_dir: Path, timeout_s: float) -> tuple[dict[int, int], dict[int, int]]:
    """End the workers; return (those that were told to, those that still live after the time).

    They stop accepting at once, and requests in flight get the worker's own drain time. Raises
    `MachineError` when a daemon begins in this moment: then it is the one to ask.
    """
    lock = lock_directory(runtime_dir)
    try:
        told = find(runtime_dir)
        watched: dict[int, int] = {}
        try:
            for pid in told.values():
                with contextlib.suppress(ProcessLookupError):
                    watched[pid] = os.pidfd_open(pid)
            for number, pid in told.items():
                # Looked at again behind the pidfd: from here on it names this process or none.
                if pid in watched and spawning.is_worker(pid, number):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(watched[pid], signal.SIGTERM)
            left = _await(set(watched.values()), timeout_s)
            pids = {pid for pid, descriptor in watched.items() if descriptor in left}
            return told, {number: pid for number, pid in told.items() if pid in pids}
        finally:
            for descriptor in watched.values():
                os.close(descriptor)
    finally:
        os.close(lock)


def _await(pidfds: set[int], timeout_s: float) -> set[int]:
    """Wait until the processes have ended; return those that have not."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    for descriptor in pidfds:
        poll.register(descriptor, select.POLLIN)
    left = set(pidfds)
    while left and (rest := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(rest * 1_000):
            poll.unregister(descriptor)
            left.discard(descriptor)
    return left
