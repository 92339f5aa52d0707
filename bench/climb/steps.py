"""The rules of the ladder: when a step has failed, where the knee is, and what Little's law says.

Pure, so that what docs/benchmarks.md states is what is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.measuring.generator import Outcome

# Of those who were due, so many may go without an answer of the backend.
_LOST_MAX = 0.01
# A generator half of whose requests leave later than this is what was measured.
_LATE_US_MAX = 1000.0
# Measured in flight against rate by latency.
_LITTLE_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """One proxy at one rate."""

    rate: float
    cpu_us: float
    outcome: Outcome

    @property
    def lost(self) -> float:
        """The share of those who were due that was not served."""
        return (self.outcome.due - self.outcome.ends["served"]) / max(self.outcome.due, 1)

    @property
    def holds(self) -> bool:
        """Whether the proxy kept pace."""
        return self.lost <= _LOST_MAX

    @property
    def is_of_the_generator(self) -> bool:
        """Whether the generator did not keep pace, so that nothing is known of the proxy."""
        return self.outcome.late.p50 > _LATE_US_MAX

    @property
    def is_passed(self) -> bool:
        """Whether the next step is worth trying."""
        return self.holds and not self.is_of_the_generator

    @property
    def power(self) -> float:
        """Kleinrock's power: what is served a second by the time that it takes, in the median."""
        return self.outcome.served_per_s / self.outcome.served.p50 if self.outcome.served.p50 else 0

    @property
    def little(self) -> float:
        """Measured in flight by arrival rate times latency: 1 by Little's law."""
        expected = self.outcome.arrivals_per_s * self.outcome.stay.mean / 1e6
        return self.outcome.in_flight_mean / expected if expected else 1.0

    @property
    def obeys_little(self) -> bool:
        """Whether both agree within a tenth."""
        return abs(self.little - 1) <= _LITTLE_TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        return {
            "rate": self.rate,
            "cpu_us": self.cpu_us,
            "lost": self.lost,
            "power": self.power,
            "little": self.little,
            "is_of_the_generator": self.is_of_the_generator,
            **asdict(self.outcome),
        }


def knee(steps: Sequence[Step]) -> Step | None:
    """The step of the greatest power among those that hold: beyond it, more is served only by
    letting everybody wait longer than it is worth."""
    held = [step for step in steps if step.is_passed]
    return max(held, key=lambda step: step.power, default=None)


def capacity(steps: Sequence[Step]) -> float:
    """The most that was served a second at any step."""
    return max((step.outcome.served_per_s for step in steps), default=0.0)


def unloaded(steps: Sequence[Step], of: str) -> float:
    """A percentile of a proxy that has time: the best of all steps at which it kept pace."""
    return min((getattr(step.outcome.served, of) for step in steps if step.holds), default=0.0)


def ending(steps: Sequence[Step]) -> str:
    """Why the ladder ends at its last step, in words."""
    last = steps[-1]
    if last.is_of_the_generator:
        return "the generator was the limit"
    if last.holds:
        return "no step failed"
    ends = {name: count for name, count in last.outcome.ends.items() if count and name != "served"}
    told = ", ".join(f"{count} {name}" for name, count in ends.items())
    return f"{last.lost:.1%} not served ({told})"
