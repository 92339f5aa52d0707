"""How many workers this machine has room for, and the core that each of them gets.

Called by `reconciler.workers.slots.supervisor` and `reconciler.planning.sizing`.
"""

from __future__ import annotations

import os
from pathlib import Path


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
