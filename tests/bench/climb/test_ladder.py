"""The ladder with tiny settings: real proxies climb it, fail where they must, and go beyond."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.climb import ladder
from bench.measuring import report

# Not in parallel: it pins processes to the two cores, and would tell of its neighbours.
pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a core for the load is needed"),
]

DELAY_MS = 100
PLACES = 32


def test_each_proxy_climbs_to_what_its_places_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    course = ladder.Course(
        first_rate=60,
        factor=3,
        seconds=1,
        warm_up_s=0.25,
        delays_ms=[DELAY_MS],
        body_bytes=64,
        max_requests=PLACES,
        timeout_ms=1000,
        rounds=1,
        plots=tmp_path,
    )
    found = ladder.run(course)[f"{DELAY_MS} ms"]
    for name in ("kakehi", "nginx", "haproxy"):
        there = found[name]
        steps = there["steps"]
        # 32 places of 100 ms are 320 requests a second: 60 holds, and 540 does not.
        assert 59 <= there["capacity"] < 350, name
        assert (steps[0]["due"], steps[0]["lost"] <= 0.01) == (60, True), name
        assert steps[0]["served"]["p50"] >= DELAY_MS * 1000, name
        if steps[-1]["is_of_the_generator"]:
            # On a machine that others use, too, that is all that it has to say.
            assert there["ending"] == "the generator was the limit"
            continue
        assert len(steps) in {2, 3}, name
        assert steps[-1]["ends"]["refused"] > 0, name
        beyond = found["overload"][name]
        ends = beyond["outcome"]["ends"]
        assert ends["refused"] > ends["served"] > 0, name
        assert sum(ends.values()) == beyond["outcome"]["due"], name
        assert ends["cut"] == ends["malformed"] == ends["failed"] == 0, name
        # Those who are admitted wait for the backend and for nobody else.
        assert DELAY_MS <= beyond["outcome"]["served"]["p50"] / 1000 < 4 * DELAY_MS, name
        assert name in found["half load"]["rounds"]
    assert found["overload"]["kakehi"]["reconciles"] is True
    assert (tmp_path / f"ladder-{DELAY_MS}ms.svg").exists()
    assert "three times its capacity" in capsys.readouterr().out
