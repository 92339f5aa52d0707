"""What a round found, as people read it, and round by round beside others.

Used by the courses of `bench.side`, whose samples all have these figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from bench.measuring import report

_LATENCIES = {"p50_us": "p50 µs", "p99_us": "p99 µs", "p99_9_us": "p99.9 µs"}


class Figures(Protocol):
    """What one proxy did in one round."""

    @property
    def requests_per_s(self) -> float:
        """How many were answered in a second."""

    @property
    def cpu_us(self) -> float:
        """Processor time of the proxy for each."""

    @property
    def errors(self) -> int:
        """How many were not answered as they should."""


_Found = TypeVar("_Found", bound=Figures)
Rounds = Mapping[str, Sequence[_Found]]


def table(rounds: Rounds[_Found], latencies: Sequence[str] = ()) -> str:
    """A row for each contender; `latencies` are fields of its samples. A tail has its ends."""
    rows = []
    for name, samples in rounds.items():
        late = {each: _spread(samples, each) for each in latencies}
        shown = [
            each.show(0) if field == "p99_9_us" else f"{each.median:.0f}"
            for field, each in late.items()
        ]
        served = _spread(samples, "requests_per_s").show(0)
        cost = _spread(samples, "cpu_us").show(1)
        rows.append([name, served, cost, *shown, str(sum(each.errors for each in samples))])
    columns = [_LATENCIES[each] for each in latencies]
    return report.table(["", "requests/s", "CPU µs/request", *columns, "errors"], rows)


def beside(
    rounds: Rounds[_Found], ours: str, rivals: Sequence[str], field: str = "cpu_us"
) -> report.Spread:
    """Our figure to that of whichever rival was better in the same round."""
    better = max if field.endswith("_per_s") else min
    theirs = zip(
        *([getattr(each, field) for each in rounds[rival]] for rival in rivals), strict=True
    )
    return report.ratios(
        [getattr(each, field) for each in rounds[ours]], [better(each) for each in theirs]
    )


def _spread(samples: Sequence[_Found], field: str) -> report.Spread:
    return report.Spread.of([getattr(each, field) for each in samples])
