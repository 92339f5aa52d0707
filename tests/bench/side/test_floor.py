"""The benchmark against bytes passed on unread, with tiny settings: it runs, and tells a ratio."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.measuring import report
from bench.side import floor

# Not in parallel: it pins processes to the two cores, and would tell of its neighbours.
pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a core for the load is needed"),
]


def test_uploads_are_read_whole_by_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    bytes_up = 300_000
    course = floor.Course(1, 1, connections=[2], bodies=[bytes_up], profile="lean", is_upload=True)
    there = floor.run(course)[f"{bytes_up} B"]["2"]
    for samples in there["samples"].values():
        assert [each["errors"] for each in samples] == [0]
        # Bytes that nobody had to pass on would cost less than that.
        assert samples[0]["cpu_us"] > 30
    assert f"{bytes_up} B uploads" in capsys.readouterr().out


def test_it_tells_a_ratio_for_each_length_and_number_of_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    course = floor.Course(rounds=1, seconds=1, connections=[1, 8], bodies=[64], profile="lean")
    found = floor.run(course)
    for connections in ("1", "8"):
        there = found["64 B"][connections]
        for samples in there["samples"].values():
            assert [each["errors"] for each in samples] == [0]
            assert samples[0]["requests_per_s"] > 0
        # It cannot be far from what the bytes cost.
        assert 0.2 < there["ratio"]["median"] < 20
    assert "kakehi / floor" in capsys.readouterr().out
    assert len(list((tmp_path / "results").glob("floor-*.json"))) == 1


def test_bytes_pass_unread_beside_haproxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    course = floor.Course(1, 1, connections=[4], bodies=[64], profile="lean", is_bytes=True)
    there = floor.run(course)["64 B"]["4"]
    assert set(there["samples"]) == {"kakehi", "haproxy", "floor"}
    for (sample,) in there["samples"].values():
        assert (sample["errors"], sample["requests_per_s"] > 0) == (0, True)
    assert "kakehi / haproxy" in capsys.readouterr().out
