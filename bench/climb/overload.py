"""Three times what a proxy can do: who is served as before, and how quickly the others know.

Used by `bench.climb.ladder` behind each ladder. Kakehi's own counters are read before and after, at
rest: what was accepted must be what was served, refused or cut short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from bench.climb.steps import Step, capacity, unloaded
from bench.measuring.contenders import Contender
from bench.measuring.generator import Load, Outcome, generate
from tests.harness import metrics
from tests.harness.daemon import resident_kib

FACTOR = 3


@dataclass(frozen=True, slots=True)
class Overload:
    """What became of one proxy at three times its capacity."""

    rate: float
    outcome: Outcome
    unloaded_p99_us: float
    peak_per_s: float
    # Of all its processes, before and after.
    memory_kib: tuple[int, int]
    # By how much each of Kakehi's counters grew; of the peers, none.
    counted: Mapping[str, int]

    @property
    def stretched(self) -> float:
        """The 99th percentile of what was served, against the same of an unloaded proxy."""
        return self.outcome.served.p99 / max(self.unloaded_p99_us, 1)

    @property
    def kept(self) -> float:
        """What was served a second, against the most that ever was."""
        return self.outcome.served_per_s / max(self.peak_per_s, 1)

    @property
    def memory_growth(self) -> float:
        """Memory after it against before."""
        return self.memory_kib[1] / max(self.memory_kib[0], 1)

    @property
    def reconciles(self) -> bool | None:
        """Whether what came is what was served and what was cut short; `None` if a proxy does not
        tell."""
        if not self.counted:
            return None
        grown = {name.removeprefix("kakehi_"): count for name, count in self.counted.items()}
        whole = (
            grown["requests_total"] == grown["requests_served_total"] + grown["requests_cut_total"]
        )
        return whole and grown["mishaps_total"] == 0

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        ratios = {"stretched": self.stretched, "kept": self.kept, "grown": self.memory_growth}
        return {**asdict(self), **ratios, "reconciles": self.reconciles}


def overload(contender: Contender, load: Load, core: int, steps: Sequence[Step]) -> Overload:
    """Ask three times as much as it can, by its ladder; `load` tells all but the rate."""
    peak = capacity(steps)
    load = replace(load, rate=FACTOR * peak)
    before = _counters(contender)
    memory = _memory_kib(contender)
    outcome = generate(load, core)
    after = _counters(contender)
    return Overload(
        rate=FACTOR * peak,
        outcome=outcome,
        unloaded_p99_us=unloaded(steps, "p99"),
        peak_per_s=peak,
        memory_kib=(memory, _memory_kib(contender)),
        counted={name: round(after[name] - value) for name, value in before.items()},
    )


def _memory_kib(contender: Contender) -> int:
    return sum(resident_kib(pid) for pid in contender.pids())


def _counters(contender: Contender) -> dict[str, float]:
    if contender.metrics_url is None:
        return {}
    address = urlsplit(contender.metrics_url).netloc
    found = metrics.wait_for(address, lambda now: now["kakehi_worker_requests"] == 0)
    return {name: value for name, value in found.items() if "_total" in name}
