"""A change costs what it changes, however much is configured: issue line 5, by bench's own code."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from bench.changes.reconfigure import Subject, measure, show
from bench.measuring.report import Spread

# Processor time of one change, by ratio.
pytestmark = pytest.mark.timed

_SIZES = (100, 10_000)
_CHANGES = 15
_GROWTH_MAX = 2.0
# A smaller size that takes less than this is as likely to have been lucky.
_FLOOR_MS = 6.0


def test_a_change_of_one_backend_costs_the_same_at_10000_frontends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.ExitStack() as running:
        subjects = [
            running.enter_context(Subject(tmp_path, frontends).running()) for frontends in _SIZES
        ]
        costs = measure(subjects, _CHANGES)
    with capsys.disabled():
        print(f"\n{show(costs)}")
    small, large = (Spread.of([cost.cpu_ms for cost in costs[size]]).median for size in _SIZES)
    assert large <= _GROWTH_MAX * max(small, _FLOOR_MS)
