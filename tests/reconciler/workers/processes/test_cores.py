from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.workers.processes import cores


def test_the_first_core_is_given_out_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 2, 9})
    assert cores.usable_cores() == [4, 9, 2]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert cores.usable_cores() == [5]


@pytest.mark.parametrize(
    ("usable", "quota", "count"),
    [(1, None, 1), (2, None, 1), (8, None, 7), (8, 2.5, 2), (8, 0.5, 1), (4, 64.0, 3)],
)
def test_auto_leaves_a_core_and_keeps_to_the_quota(
    monkeypatch: pytest.MonkeyPatch, usable: int, quota: float | None, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.automatic_count() == count


def test_the_tightest_quota_on_the_way_up_holds(tmp_path: Path) -> None:
    own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    (tmp_path / own).mkdir(parents=True, exist_ok=True)
    assert cores.cpu_quota(tmp_path) is None
    (tmp_path / own / "cpu.max").write_text("max 100000\n")
    assert cores.cpu_quota(tmp_path) is None
    (tmp_path / own / "cpu.max").write_text("150000 100000\n")
    assert cores.cpu_quota(tmp_path) == 1.5
    if own:
        (tmp_path / "cpu.max").write_text("50000 100000\n")
        assert cores.cpu_quota(tmp_path) == 0.5
