"""The daemon is killed while a load is written that is too large for one process."""

from __future__ import annotations

from pathlib import Path

from tests.faults.killing import LONG, applying

# It has hundreds of calls, most of them pages of the same file.
STEPS = 100 if LONG else 8


def test_a_kill_within_a_large_load_leaves_one_generation(tmp_path: Path) -> None:
    with applying(tmp_path, large=True) as one:
        calls = one.count()
        assert calls > 200, "rows are written by the page"
        killed = [one.kill_at(call, by_half=False) for call in range(1, calls, calls // STEPS)]
        assert sum(killed) > len(killed) // 2
