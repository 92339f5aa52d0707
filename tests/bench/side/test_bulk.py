"""The benchmark of short requests beside downloads, with tiny settings: it runs, and compares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.measuring import report
from bench.side import bulk

# Not in parallel: it pins processes to the two cores, and would tell of its neighbours.
pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a core for the load is needed"),
]


def test_it_tells_how_long_short_requests_wait_and_what_downloads_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    course = bulk.Course(rounds=1, seconds=1, downloads=4, body_bytes=262_144, rate=50)
    found = bulk.run(course)
    assert set(found["samples"]) == {"kakehi", "nginx", "haproxy"}
    for (sample,) in found["samples"].values():
        assert sample["downloads_per_s"] > 0
        # All that were due, at the rate that was asked for.
        assert 40 < sample["requests_per_s"] < 60
        assert 0 < sample["p50_us"] <= sample["p99_us"] <= sample["p99_9_us"]
    assert found["samples"]["kakehi"][0]["errors"] == 0
    assert "downloads/s: kakehi" in capsys.readouterr().out
