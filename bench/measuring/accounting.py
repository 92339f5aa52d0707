"""CPU time from the kernel's accounting, and where a process may run.

Used by every benchmark and by tests/scale. CPU time is that of `/proc/PID/task/*/schedstat`: in
nanoseconds, and of the time really spent on a core, whoever else was running.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def cpu_ns(pids: Iterable[int]) -> int:
    """The CPU time of all threads of these processes so far."""
    return sum(_thread_ns(task) for pid in pids for task in _tasks(pid))


def children(pid: int) -> list[int]:
    """The processes that were started by a process and still are its children."""
    found: list[int] = []
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def two_cores() -> tuple[int, int]:
    """The core of the proxies and the one of load and backend."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("bench: two cores are needed, one for the proxies and one for the load")
    return cores[0], cores[1]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Within, this thread and the processes that it starts run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _thread_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except OSError:
        return 0  # It ended between the listing and the reading.
