"""Rates raised step by step until each proxy fails, at several distances of the backend.

`python -m bench ladder`. Sizes, latency and limits are fixed, requests come by a schedule (our own
generator), and each step asks all proxies at that rate in turn, in the opposite order of the step
before. Each proxy climbs until it, or the generator, has failed at a rate twice in a row. Then all
are asked at half of what the least of them can do, for percentiles to compare, and each at three
times what it can do. The rules are in `bench.climb.steps`. Distance is a relay between proxy and
backend that passes everything on later: a network emulator in the kernel (netem) would do, but not
every kernel has one.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.climb.overload import Overload, overload
from bench.climb.plots import draw
from bench.climb.steps import Step, capacity, ending, knee
from bench.measuring import report
from bench.measuring.accounting import cpu_ns, two_cores
from bench.measuring.contenders import Contender, Setup, backend, contenders
from bench.measuring.generator import Load, generate, relay

_OURS = "kakehi"
_PERCENTILES = ("p50", "p99", "p99_9")

Ladders = dict[str, list[Step]]


@dataclass(frozen=True, slots=True)
class Course:
    """What is measured: from which rate on, how steeply, how long, and at which distances."""

    first_rate: float
    factor: float
    seconds: float
    warm_up_s: float
    delays_ms: Sequence[int]
    body_bytes: int
    # In flight at a proxy; more are answered by 503.
    max_requests: int
    timeout_ms: int
    # Of the comparison at half load.
    rounds: int
    # A connection for each request.
    fresh: bool = False
    steps_max: int = 40
    plots: Path | None = None

    def load(self, port: int, path: str, rate: float) -> Load:
        """How a proxy is asked at this rate."""
        return Load(
            port,
            path,
            rate=rate,
            seconds=self.seconds,
            warm_up_s=self.warm_up_s,
            timeout_ms=self.timeout_ms,
            # Enough of them to be refused, too.
            connections=4 * self.max_requests,
            fresh=self.fresh,
        )


@dataclass(frozen=True, slots=True)
class _Field:
    """Where it is run: the proxies, and who asks them from where."""

    course: Course
    running: Sequence[Contender]
    path: str
    core: int

    def step(self, contender: Contender, rate: float) -> Step:
        """One proxy at one rate."""
        before = cpu_ns(contender.pids())
        outcome = generate(self.course.load(contender.port, self.path, rate), self.core)
        spent_ns = cpu_ns(contender.pids()) - before
        # The warm-up is spent, too.
        share = self.course.seconds / (self.course.seconds + self.course.warm_up_s)
        return Step(rate, spent_ns * share / 1000 / max(outcome.due, 1), outcome)


def run(course: Course) -> dict[str, Any]:
    """Measure, print, and write a file for programs; return what is in it."""
    found: dict[str, Any] = {
        "body_bytes": course.body_bytes,
        "max_requests": course.max_requests,
        "seconds": course.seconds,
        "fresh": course.fresh,
    }
    for delay_ms in course.delays_ms:
        with _field(course, delay_ms) as field:
            print(f"\n==> {delay_ms} ms to the backend, {course.body_bytes} B bodies", flush=True)
            found[f"{delay_ms} ms"] = _measure(field, delay_ms)
    print(f"\nwritten to {report.save('ladder', found)}")
    return found


@contextlib.contextmanager
def _field(course: Course, delay_ms: int) -> Iterator[_Field]:
    core, load_core = two_cores()
    with (
        tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        base = Path(name)
        port, path = stack.enter_context(backend(base, load_core, course.body_bytes))
        if delay_ms:
            way = relay(port, load_core, base / "relay", delay_ms=delay_ms)
            port = stack.enter_context(way).port
        setup = Setup(core, port, "lean", course.body_bytes, max_requests=course.max_requests)
        running = stack.enter_context(contenders(base, setup))
        yield _Field(course, running, path, load_core)


def _measure(field: _Field, delay_ms: int) -> dict[str, Any]:
    ladders = _climb(field)
    for name, steps in ladders.items():
        print(f"\n{name}: {ending(steps)}\n{_table(steps)}")
    found: dict[str, Any] = {
        name: {
            "steps": [step.to_json() for step in steps],
            "knee": getattr(knee(steps), "rate", None),
            "capacity": capacity(steps),
            "ending": ending(steps),
        }
        for name, steps in ladders.items()
    }
    if field.course.plots is not None:
        draw(field.course.plots / f"ladder-{delay_ms}ms.svg", ladders, delay_ms)
    able = [contender for contender in field.running if capacity(ladders[contender.name])]
    if len(able) == len(field.running):
        found["half load"] = _half_load(field, ladders)
    beyond = {each.name: _overload(field, each, ladders[each.name]) for each in able}
    if beyond:
        print(f"\nthree times its capacity\n{_beyond_table(beyond)}", flush=True)
    found["overload"] = {name: each.to_json() for name, each in beyond.items()}
    return found


def _climb(field: _Field) -> Ladders:
    ladders: Ladders = {contender.name: [] for contender in field.running}
    climbing = list(field.running)
    rate = field.course.first_rate
    for number in range(field.course.steps_max):
        for contender in list(climbing if number % 2 == 0 else reversed(climbing)):
            step = field.step(contender, rate)
            if not step.is_passed:
                # One stall of a machine that is shared is no failure, of whomever.
                step = field.step(contender, rate)
            ladders[contender.name].append(step)
            if not step.is_passed:
                climbing.remove(contender)
        if not climbing:
            break
        rate *= field.course.factor
    return ladders


def _half_load(field: _Field, ladders: Ladders) -> dict[str, Any]:
    """Percentiles of all at one rate, which is easy for each of them."""
    rate = min(capacity(steps) for steps in ladders.values()) / 2
    rounds: Ladders = {contender.name: [] for contender in field.running}
    for number in range(field.course.rounds):
        for contender in field.running if number % 2 == 0 else reversed(field.running):
            rounds[contender.name].append(field.step(contender, rate))
    rows = [
        [name, *(report.Spread.of(_values(steps, of)).show(0) for of in _PERCENTILES)]
        for name, steps in rounds.items()
    ]
    print(f"\n{rate:.0f} requests/s, half of what the least can, {field.course.rounds} rounds")
    print(report.table(["", "p50 µs", "p99 µs", "p99.9 µs"], rows))
    ratios = {of: _to_better(rounds, of) for of in _PERCENTILES}
    shown = ", ".join(f"{of} {ratio.show()}" for of, ratio in ratios.items())
    print(f"kakehi / better of nginx and haproxy: {shown}", flush=True)
    return {
        "rate": rate,
        "rounds": {name: [step.to_json() for step in steps] for name, steps in rounds.items()},
        "ratio_to_better_peer": {of: ratio.to_json() for of, ratio in ratios.items()},
    }


def _values(steps: Sequence[Step], of: str) -> list[float]:
    return [getattr(step.outcome.served, of) for step in steps]


def _to_better(rounds: Ladders, of: str) -> report.Spread:
    peers = [_values(steps, of) for name, steps in rounds.items() if name != _OURS]
    better = [min(values) for values in zip(*peers, strict=True)]
    return report.ratios(_values(rounds[_OURS], of), better)


def _overload(field: _Field, contender: Contender, steps: Sequence[Step]) -> Overload:
    course = field.course
    # Those who time out are in flight for that long: until then they only become more.
    warm_up_s = max(course.warm_up_s, course.timeout_ms / 1000)
    load = replace(course.load(contender.port, field.path, 1), warm_up_s=warm_up_s)
    return overload(contender, load, field.core, steps)


def _table(steps: Sequence[Step]) -> str:
    at_knee = knee(steps)
    rows = [
        [
            f"{step.rate:.0f}{' knee' if step is at_knee else ''}",
            f"{step.outcome.served_per_s:.0f}",
            *(f"{getattr(step.outcome.served, of):.0f}" for of in _PERCENTILES),
            str(step.outcome.ends["refused"]),
            str(step.outcome.timeouts),
            str(step.outcome.errors),
            f"{step.outcome.in_flight_mean:.1f}",
            f"{step.little:.2f}{'' if step.obeys_little else ' !'}",
            f"{step.outcome.late.p50:.0f}",
        ]
        for step in steps
    ]
    head = ["due/s", "served/s", "p50 µs", "p99 µs", "p99.9 µs", "refused", "timeouts", "errors"]
    return report.table([*head, "in flight", "/ Little", "late µs"], rows)


def _beyond_table(beyond: Mapping[str, Overload]) -> str:
    rows = [
        [
            name,
            f"{each.rate:.0f}",
            f"{each.kept:.2f}",
            f"{each.outcome.served.p99:.0f}",
            f"{each.stretched:.1f}",
            str(each.outcome.ends["refused"]),
            f"{each.outcome.refused.p99:.0f}",
            str(each.outcome.timeouts),
            str(each.outcome.errors),
            f"{each.memory_growth:.2f}",
            f"{each.outcome.late.p50:.0f}",
            {None: "-", True: "yes", False: "NO"}[each.reconciles],
        ]
        for name, each in beyond.items()
    ]
    head = ["", "due/s", "of its peak", "p99 µs", "/ unloaded", "refused", "refused p99 µs"]
    return report.table([*head, "timeouts", "errors", "memory", "late µs", "counted"], rows)
