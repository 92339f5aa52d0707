"""Where the time of a step goes: processor time by process, and by function of the Python ones.

`bench site` prints it for each figure that misses what is wanted. A run with `--profile` samples
the functions (`bench.sampling`), which makes everything a little slower.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.measuring.accounting import cpu_ns

SAMPLING = Path(__file__).parents[1] / "sampling"
_FUNCTIONS_MAX = 12
# Of the fields of /proc/PID/stat behind the name: what ended children have used (proc(5)).
_CUTIME = 13

Processes = Mapping[str, list[int]]
"""The processes by what they are."""


@dataclass(slots=True)
class Spent:
    """What a step has taken."""

    wall_s: float = 0.0
    by_process_s: dict[str, float] = field(default_factory=dict)
    """Processor time, with that of children that have ended."""
    functions: list[tuple[str, float]] = field(default_factory=list)
    """The shares of the samples that a function was in, the largest first."""

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        shares = (f"{name} {spent_s:.2f} s" for name, spent_s in self.by_process_s.items())
        yield f"{self.wall_s:.2f} s; of processor time: {', '.join(shares)}"
        for name, share in self.functions:
            yield f"{share:6.1%}  {name}"


@contextmanager
def step(processes: Callable[[], Processes], samples: Path | None) -> Iterator[Spent]:
    """Within is one step, whose `Spent` is filled in at its end.

    `processes` says at both ends which there are. `samples` is where `bench.sampling` writes.
    """
    before = {pid: _spent_s(pid) for pids in processes().values() for pid in pids}
    spent, began = Spent(), time.monotonic()
    yield spent
    now = time.monotonic()
    spent.wall_s = now - began
    for name, pids in processes().items():
        spent.by_process_s[name] = sum(_spent_s(pid) - before.get(pid, 0.0) for pid in pids)
    if samples is not None:
        spent.functions = _functions(samples, began, now)


def _spent_s(pid: int) -> float:
    try:
        behind_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    ticks = sum(map(int, behind_name[_CUTIME : _CUTIME + 2]))
    return cpu_ns([pid]) / 1e9 + ticks / os.sysconf("SC_CLK_TCK")


def _functions(samples: Path, began: float, ended: float) -> list[tuple[str, float]]:
    counts: Counter[str] = Counter()
    total = 0
    for path in samples.glob("*.samples"):
        for line in path.read_text().splitlines():
            at, tab, stack = line.partition("\t")
            if tab and began <= float(at) <= ended:
                total += 1
                counts.update(set(stack.split(";")))
    found = [(name, count / total) for name, count in counts.most_common() if _tells(name)]
    return found[:_FUNCTIONS_MAX]


def _tells(function: str) -> bool:
    """Whether it is more than what every stack begins with."""
    common = (
        "reconciler/cli/main:",
        "reconciler/cli/commands/run:",
        "reconciler/daemon/starting:",
        "reconciler/daemon/daemon:",
    )
    return bool(function) and not function.startswith((*common, "reconciler/parts:"))
