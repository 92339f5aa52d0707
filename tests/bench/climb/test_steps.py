"""The rules of the ladder, on steps whose figures are given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.climb.steps import Step, capacity, ending, knee, unloaded
from bench.measuring.generator import Latency, Outcome

NONE = Latency(0, 0, 0, 0, 0, 0, 0)


def latency(ms: float) -> Latency:
    return Latency(1, *[ms * 1000] * 6)


def step(
    rate: float,
    *,
    refused: int = 0,
    ms: float = 1,
    in_flight: float | None = None,
    late_us: int = 9,
) -> Step:
    """One second at a rate at which so many are refused."""
    due = round(rate)
    ends = {"served": due - refused, "refused": refused, "timeout": 0, "failed": 0}
    outcome = Outcome(
        seconds=1.0,
        due=due,
        ends=ends,
        served_per_s=due - refused,
        served=latency(ms),
        refused=NONE,
        stay=latency(ms),
        service=latency(ms),
        late=replace(NONE, p50=late_us),
        connects=1,
        in_flight_mean=rate * ms / 1000 if in_flight is None else in_flight,
        in_flight_slices=[],
    )
    return Step(rate, 10.0, outcome)


def test_one_of_a_hundred_may_be_lost() -> None:
    assert step(1000, refused=10).holds
    assert not step(1000, refused=11).holds
    assert step(1000, refused=11).lost == pytest.approx(0.011)


def test_a_generator_that_is_late_tells_of_itself() -> None:
    assert not step(1000, late_us=1000).is_of_the_generator
    assert step(1000, late_us=1001).is_of_the_generator


def test_the_knee_is_where_waiting_grows_faster_than_what_is_served() -> None:
    steps = [
        step(1000, ms=1),
        step(2000, ms=1),
        step(4000, ms=1.5),
        step(8000, ms=6),
        step(16000, ms=1, refused=9000),
    ]
    # 4000 / 1.5 is more than 2000 / 1, and 8000 / 6 is less; the last fails, whatever it gives.
    assert knee(steps) is steps[2]
    assert knee(steps[4:]) is None
    assert knee([step(1000), step(2000, late_us=5000)]) == step(1000)


def test_the_capacity_is_the_most_that_was_served() -> None:
    assert capacity([step(1000), step(3000, refused=900), step(9000, refused=8000)]) == 2100
    assert capacity([]) == 0


def test_the_best_percentile_is_that_of_a_proxy_that_has_time() -> None:
    steps = [step(1000, ms=3), step(2000, ms=2), step(4000, ms=1, refused=4000)]
    assert unloaded(steps, "p99") == 2000


@pytest.mark.parametrize(
    ("in_flight", "obeys"), [(10.0, True), (10.9, True), (11.2, False), (8.9, False)]
)
def test_little_is_obeyed_within_a_tenth(in_flight: float, obeys: bool) -> None:
    # 1000 a second, each for 10 ms.
    assert step(1000, ms=10, in_flight=in_flight).obeys_little is obeys
    assert step(1000, ms=10, in_flight=in_flight).little == pytest.approx(in_flight / 10)


def test_the_end_of_a_ladder_is_told_in_words() -> None:
    assert ending([step(10), step(1000, refused=80)]) == "8.0% not served (80 refused)"
    assert ending([step(10, late_us=9999)]) == "the generator was the limit"
    assert ending([step(10)]) == "no step failed"
