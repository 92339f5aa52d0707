"""How a worker process comes to be: its control socket, and the core that it gets.

Called by `reconciler.workers.supervisor`. `reconciler.workers.forking` has the process that forks
it. A worker is our child and nobody else's: it lives on when that process ends, and when we do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from pathlib import Path

from reconciler.errors import MachineError
from reconciler.presence import is_there
from reconciler.workers.forking import zygote

WORKERS_DIRECTORY = "workers"
# sockaddr_un holds 108 bytes with the terminator.
_SOCKET_PATH_BYTES_MAX = 107
_COMM_BYTES = 15


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
    with contextlib.suppress(FileNotFoundError):
        successor_path(runtime_dir, worker).rename(socket_path(runtime_dir, worker))


def spawn(path: Path, worker: int, cpu: int) -> int:
    """Starts a worker that listens at `path` and returns its process; it can be connected to.

    Raises `MachineError`.
    """
    try:
        with _control_socket(path) as control:
            return zygote.fork(worker, cpu, control)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(f"cannot start worker {worker}: {reason}") from error


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


def _control_socket(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
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


def is_worker(pid: int, worker: int) -> bool:
    """Whether a process really is this worker, before it is signalled by its number."""
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return name == f"kakehi-w{worker}".encode()[:_COMM_BYTES] and b"proxy" in words


def usable_cores() -> list[int]:
    """The cores that workers get, in this order; what is left over comes first in the affinity.

    One core is left to the kernel and the reconciler when there is more than one, so it is the last
    to be given out.
    """
    cores = sorted(os.sched_getaffinity(0))
    return [*cores[1:], cores[0]]


def automatic_count() -> int:
    """How many workers `workers: auto` means: a core each, one core left, within the CPU quota."""
    count = max(1, len(os.sched_getaffinity(0)) - 1)
    quota = cpu_quota()
    return max(1, min(count, int(quota))) if quota is not None else count


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """How many cores' worth of time the control group may use; None: no limit."""
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    except OSError:
        return None
    found: float | None = None
    directory = root / own
    while True:
        try:
            allowed, period = (directory / "cpu.max").read_text().split()
            if allowed != "max":
                quota = int(allowed) / int(period)
                found = quota if found is None else min(found, quota)
        except (OSError, ValueError):
            pass
        if directory in (root, Path("/"), Path()):
            return found
        directory = directory.parent
