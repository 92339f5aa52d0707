"""The prober's process: found at its socket, started, ended. It outlives the daemon.

Called by `leading` beside, and by `reconciler.cli` where no daemon runs (`end`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

from reconciler.workers.processes import spawning, worker_sockets
from schemas.messages.zygote import PROBER

SOCKET = "prober.sock"
_NAME = b"kakehi-prober"
_NOT_PINNED = -1


def socket_path(runtime_dir: Path) -> Path:
    """Where it listens for a daemon."""
    return runtime_dir / SOCKET


def connect(runtime_dir: Path) -> tuple[socket.socket, int] | None:
    """(connection, process) of whoever listens there. Raises `OSError` where it is full."""
    return worker_sockets.connect(socket_path(runtime_dir))


def find(runtime_dir: Path) -> tuple[socket.socket, int] | None:
    """The same of a prober. Raises `OSError` where it is full."""
    found = connect(runtime_dir)
    if found is not None and not is_prober(found[1]):
        found[0].close()
        return None
    return found


def is_prober(pid: int) -> bool:
    """Whether a process really is one, before it is signalled by its number."""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n") == _NAME
    except OSError:
        return False


async def start(runtime_dir: Path) -> int:
    """Start one and return its process; it can be connected to. Raises `MachineError`."""
    return await spawning.spawn_in_thread(socket_path(runtime_dir), PROBER, _NOT_PINNED)


def end(runtime_dir: Path) -> None:
    """End the one that listens there, if one does: nobody reads what it finds."""
    with contextlib.suppress(OSError):
        found = find(runtime_dir)
        if found is None:
            return
        connection, pid = found
        connection.close()
        watched = os.pidfd_open(pid)
        try:
            # Looked at again behind the pidfd: from here on it names this process or none.
            if is_prober(pid):
                signal.pidfd_send_signal(watched, signal.SIGTERM)
        finally:
            os.close(watched)
