"""The control socket of each worker: where it lies, how it is bound, and who listens there.

It is what a later daemon finds a worker by. While a successor comes up beside one that serves, it
has a path of its own, and takes the place when the other leaves. Called by `spawning` and `orphans`
beside, `reconciler.workers.slots.tending` and `reconciler.loop.repair.recovery`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from reconciler.presence import is_there

WORKERS_DIRECTORY = "workers"
# sockaddr_un holds 108 bytes with the terminator.
_PATH_BYTES_MAX = 107
_PEERCRED = struct.Struct("3i")


def socket_path(runtime_dir: Path, worker: int) -> Path:
    """Where a worker listens for its reconciler."""
    return runtime_dir / WORKERS_DIRECTORY / f"{worker}.sock"


def listening(runtime_dir: Path) -> set[int]:
    """The numbers of the workers that may listen there."""
    paths = (runtime_dir / WORKERS_DIRECTORY).glob("*")
    return {int(path.stem) for path in paths if path.stem.isdecimal()}


def successor_path(runtime_dir: Path, worker: int) -> Path:
    """Where it listens while another one still serves in its place."""
    return runtime_dir / WORKERS_DIRECTORY / f"{worker}.next"


def is_found(runtime_dir: Path, worker: int) -> bool:
    """Whether the next daemon would find one there."""
    return is_there(socket_path(runtime_dir, worker)) or is_there(
        successor_path(runtime_dir, worker)
    )


def succeed(runtime_dir: Path, worker: int) -> None:
    """Gives a successor, if there is one, the place of the one that served before it."""
    place = f"{runtime_dir}/{WORKERS_DIRECTORY}/{worker}"
    # Where it cannot be had, whatever the directory is by now, it is found where it is.
    with contextlib.suppress(OSError):
        # Behind each commit there is none: a `Path` would take longer to make than to ask.
        os.rename(f"{place}.next", f"{place}.sock")  # noqa: PTH104  # as said above


def listen(path: Path) -> socket.socket:
    """Binds the socket of a worker that is about to be started. Raises `OSError`."""
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise OSError(0, f"the path {path} is too long for a socket")
    path.unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        control.bind(str(path))
        path.chmod(0o600)
        control.listen(8)
    except OSError:
        control.close()
        raise
    return control


def connect(path: Path) -> tuple[socket.socket, int] | None:
    """(connection, pid of who listens) or None when nobody listens there.

    Raises `BlockingIOError`: somebody listens, and has no room for one more who waits. Who that is
    `lost_sockets.serving` tells.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # Connecting to a Unix socket is immediate; only a full backlog would block.
    connection.setblocking(False)
    try:
        connection.connect(str(path))
    except BlockingIOError:
        connection.close()
        raise
    except OSError:
        connection.close()
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, _, _ = _PEERCRED.unpack(credentials)
    return connection, pid
