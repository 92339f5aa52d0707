"""What was measured, as people and as programs read it: spreads, tables, JSON files."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest, the middle and the largest of several measurements."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))

    def show(self, digits: int = 2) -> str:
        """For a table: the middle, and both ends in brackets."""
        least, median, most = (
            f"{each:.{digits}f}" for each in (self.least, self.median, self.most)
        )
        return f"{median} [{least}..{most}]"

    def to_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return {"min": self.least, "median": self.median, "max": self.most}


def ratios(values: Sequence[float], bases: Sequence[float]) -> Spread:
    """The spread of value to base, taken round by round: what disturbs a round disturbs both."""
    return Spread.of([value / base for value, base in zip(values, bases, strict=True)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; the first to the left, the others to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = []
    for line in lines:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append("  ".join(cells).rstrip())
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)


def save(name: str, found: dict[str, Any]) -> Path:
    """Write a result as JSON, with what must be known of the machine to read it."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    machine = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
    }
    whole = {"at": now.isoformat(timespec="seconds"), "machine": machine, **found}
    path.write_text(json.dumps(whole, indent=1) + "\n")
    return path


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
