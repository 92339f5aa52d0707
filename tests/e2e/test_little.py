"""Little's law in the worker's own numbers: in flight is what comes a second by how long it takes.

If a gauge, a counter or a duration told something else than it says, the three would disagree.
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.measuring.contenders import backend
from bench.measuring.generator import Load, generate, relay
from tests.harness import metrics, ports
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

# Load of its own, and durations.
pytestmark = pytest.mark.serial

RATE = 300
DELAY_MS = 60
SECONDS = 4.0
# Before the window and behind it, so that in it nothing begins or ends.
MARGIN_S = 0.7


def test_in_flight_is_rate_times_duration(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    address, admin = ports.address(), ports.address()
    with (
        backend(tmp_path, core, 64) as (port, path),
        relay(port, core, tmp_path / "relay", delay_ms=DELAY_MS) as far,
    ):
        repo = Repo(tmp_path / "repository")
        repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {"access_log": "off", "admin": admin},
                    "listeners": {"front": {"address": address}},
                    "clusters": {
                        "far": {"backends": {"one": {"address": f"127.0.0.1:{far.port}"}}}
                    },
                    "frontends": {"all": {"listeners": ["front"], "cluster": "far"}},
                }
            }
        )
        load = Load(ports.split(address)[1], path, rate=RATE, seconds=SECONDS, warm_up_s=0)
        with Kakehi(repo, workers=1), ThreadPoolExecutor(1) as beside:
            asked = beside.submit(generate, load, core)
            time.sleep(MARGIN_S)
            seen, before, after, window_s = _watch(admin, SECONDS - 2 * MARGIN_S)
            outcome = asked.result()
    assert outcome.ends["served"] == outcome.due

    def grown(name: str) -> float:
        return after[name] - before[name]

    ended = grown("kakehi_requests_served_total")
    assert grown("kakehi_request_duration_seconds_count") == ended
    mean_s = grown("kakehi_request_duration_seconds_sum") / ended
    assert mean_s >= DELAY_MS / 1000
    in_flight = sum(seen) / len(seen)
    assert in_flight == pytest.approx(ended / window_s * mean_s, rel=0.1)


def _watch(
    admin: str, seconds: float
) -> tuple[list[float], dict[str, float], dict[str, float], float]:
    """Look at how many are in flight at random moments; the first and last look have the rest."""
    chance = random.Random(16)
    began = time.monotonic()
    before = after = metrics.scrape(admin)
    seen = []
    while time.monotonic() - began < seconds:
        time.sleep(chance.uniform(0.005, 0.03))
        ended, after = time.monotonic(), metrics.scrape(admin)
        seen.append(after["kakehi_worker_requests"])
    return seen, before, after, ended - began
