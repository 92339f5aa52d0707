"""How a worker process comes to be: its control socket, its core, its command.

Called by `reconciler.workers.supervisor`. A worker gets a process group of its own, so that what a
terminal sends to the daemon does not reach it, and no descriptor but its control socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from reconciler.errors import MachineError

WORKERS_DIRECTORY = "workers"
# sockaddr_un holds 108 bytes with the terminator.
_SOCKET_PATH_BYTES_MAX = 107
# What systemd tells the daemon is not meant for the workers.
_OWN_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")


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


def succeed(runtime_dir: Path, worker: int) -> None:
    """Gives a successor, if there is one, the place of the one that served before it."""
    with contextlib.suppress(FileNotFoundError):
        successor_path(runtime_dir, worker).rename(socket_path(runtime_dir, worker))


def spawn(path: Path, worker: int, cpu: int) -> subprocess.Popen[bytes]:
    """Starts a worker that listens at `path`; it can be connected to at once.

    Raises `MachineError`.
    """
    try:
        with _control_socket(path) as control:
            descriptor = control.fileno()
            command = [sys.executable, "-P", "-m", "proxy", f"--worker={worker}", f"--cpu={cpu}"]
            environment = {k: v for k, v in os.environ.items() if k not in _OWN_VARIABLES}
            return subprocess.Popen(
                [*command, f"--control-fd={descriptor}"],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                # A group of its own keeps the terminal's Ctrl-C away. A session of its own would
                # too, but with sched_autogroup (sched(7)) it would make the worker compete for its
                # core as one group against all others: hundreds of milliseconds of stall whenever
                # somebody else computes on that core.
                process_group=0,
                env=environment,
            )
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(f"cannot start worker {worker}: {reason}") from error


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
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"proxy" in words and f"--worker={worker}".encode() in words


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
