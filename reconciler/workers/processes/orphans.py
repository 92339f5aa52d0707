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
from collections.abc import Collection
from pathlib import Path

from reconciler.storage.file.place import lock_directory
from reconciler.workers.processes import lost_sockets, spawning, worker_sockets


def find(runtime_dir: Path) -> dict[int, int]:
    """Return the number of each worker that listens, by its process; some may share one."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError):
        lost_sockets.regain(runtime_dir)
        # One that is stopped takes no connection, and binds nothing.
        found = lost_sockets.serving(runtime_dir)
    for number in sorted(worker_sockets.listening(runtime_dir)):
        for way in (worker_sockets.socket_path, worker_sockets.successor_path):
            # Known already: where there is no room for one more, nothing is to be learnt.
            with contextlib.suppress(BlockingIOError):
                answered = worker_sockets.connect(way(runtime_dir, number))
                if answered is not None:
                    answered[0].close()
                    found[answered[1]] = number
    by_number = sorted(found.items(), key=lambda each: each[1])
    return {pid: number for pid, number in by_number if spawning.is_worker(pid, number)}


def hidden(runtime_dir: Path, found: Collection[int]) -> str | None:
    """Return what is to be said of workers that may serve here and that we may not look into.

    `found` are the processes that are known.
    """
    try:
        unread = lost_sockets.hidden(runtime_dir, found)
    except OSError:
        return None
    if not unread:
        return None
    named = ", ".join(f"process {pid} (kakehi-w{number})" for pid, number in unread.items())
    return f"{named} cannot be looked into: ask as root"


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
            for pid in told:
                with contextlib.suppress(ProcessLookupError):
                    watched[pid] = os.pidfd_open(pid)
            for pid, number in told.items():
                # Looked at again behind the pidfd: from here on it names this process or none.
                if pid in watched and spawning.is_worker(pid, number):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(watched[pid], signal.SIGTERM)
            left = _await(set(watched.values()), timeout_s)
            pids = {pid for pid, descriptor in watched.items() if descriptor in left}
            return told, {pid: number for pid, number in told.items() if pid in pids}
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
