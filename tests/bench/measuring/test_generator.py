"""The generator and the relay as the benchmarks use them, before real servers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.measuring.contenders import backend
from bench.measuring.generator import Latency, Load, Outcome, generate, relay


def core() -> int:
    return min(os.sched_getaffinity(0))


def test_what_is_asked_for_is_what_the_program_is_told() -> None:
    said = Load(80, "/a", rate=2.5, seconds=1, warm_up_s=0, timeout_ms=9, connections=3).arguments()
    assert said == [
        *("--address", "127.0.0.1:80", "--path", "/a", "--rate", "2.5", "--seconds", "1"),
        *("--warm-up", "0", "--timeout-ms", "9", "--connections", "3"),
    ]
    closed = Load(80, in_flight=4, fresh=True).arguments()
    assert "--rate" not in closed
    assert closed[closed.index("--in-flight") + 1] == "4"
    assert closed[-1] == "--fresh"


def test_every_end_is_served_refused_late_or_an_error() -> None:
    none = Latency(0, 0, 0, 0, 0, 0, 0)
    ends = {"served": 5, "refused": 4, "failed": 1, "timeout": 3, "cut": 2, "malformed": 0}
    outcome = Outcome(2.0, 15, ends, 2.5, none, none, none, none, none, 1, 0.5, [])
    assert (outcome.arrivals_per_s, outcome.timeouts, outcome.errors) == (7.5, 3, 3)


def test_a_real_backend_answers_all_who_were_due(tmp_path: Path) -> None:
    with backend(tmp_path, core(), 64) as (port, path):
        outcome = generate(Load(port, path, rate=200, seconds=1, warm_up_s=0.1), core())
        closed = generate(Load(port, path, in_flight=2, seconds=0.3, warm_up_s=0), core())
    assert outcome.due == outcome.ends["served"] == 200
    assert 0 < outcome.served.p50 <= outcome.served.p99_9 <= outcome.served.max
    assert outcome.service.p50 <= outcome.served.max
    assert len(outcome.in_flight_slices) == 10
    assert closed.connects == 2
    assert closed.ends["served"] == closed.due > 2


@pytest.mark.parametrize("delay_ms", [0.0, 60.0])
def test_the_relay_is_as_far_away_as_it_shall_be(tmp_path: Path, delay_ms: float) -> None:
    with (
        backend(tmp_path, core(), 2000) as (port, path),
        relay(port, core(), tmp_path / "relay", delay_ms=delay_ms) as through,
    ):
        began = time.monotonic()
        outcome = generate(Load(through.port, path, rate=50, seconds=1, warm_up_s=0), core())
        took_s = time.monotonic() - began
    assert outcome.ends["served"] == 50
    # What a request waits is that much at least, and nobody is held up by the one before.
    assert outcome.service.p50 >= delay_ms * 1000
    assert outcome.service.p50 < delay_ms * 1000 + 200_000
    assert took_s < 10


def test_a_word_that_it_does_not_know_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="--rate or --in-flight"):
        generate(Load(1, rate=0.0), core())
