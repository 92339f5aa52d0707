"""Side by side: Kakehi, nginx and HAProxy under the same load, measured in turn.

`python -m bench proxies`. All proxies are alive at once on one core; load generator and backend
share the other, or with `--one-core` the same. Each round measures all of them one after the other,
in the opposite order of the round before, and ratios are taken within a round: a machine that gets
slower does it to all.
"""

from __future__ import annotations

import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Contender, Setup, backend, contenders
from bench.measuring.load import Sample, measure
from bench.measuring.rounds import in_turn

_OURS = "kakehi"

Rounds = dict[str, list[Sample]]


@dataclass(frozen=True, slots=True)
class Course:
    """What is measured: how often, how long, with how many connections."""

    rounds: int
    seconds: int
    connections: Sequence[int]
    body_bytes: int
    # All on one core: a proxy then finds many events at once, as one does that has no time left.
    one_core: bool


def run(course: Course, profiles: Sequence[str]) -> None:
    """Measure, print, and write a file for programs."""
    found = {profile: _profile(course, profile) for profile in profiles}
    path = report.save("proxies", {"rounds": course.rounds, "seconds": course.seconds, **found})
    print(f"\nwritten to {path}")


def _profile(course: Course, profile: str) -> dict[str, Any]:
    core, load_core = two_cores()
    if course.one_core:
        load_core = core
    found: dict[str, Any] = {"body_bytes": course.body_bytes, "one_core": course.one_core}
    with (
        tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base,
        backend(Path(base), load_core, course.body_bytes) as (port, path),
        contenders(Path(base), Setup(core, port, profile, course.body_bytes)) as running,
    ):
        for contender in running:
            _require(contender, path, course.body_bytes)
        for connections in course.connections:
            rounds = _rounds(course, running, connections, load_core, path)
            title = f"{profile}, {connections} connections, {course.body_bytes} B bodies"
            where = ", load on the same core" if course.one_core else ""
            print(f"\n{title}{where}, {course.rounds} rounds of {course.seconds} s", flush=True)
            print(show(rounds))
            found[str(connections)] = to_json(rounds)
    return found


def _require(contender: Contender, path: str, body_bytes: int) -> None:
    """A proxy that answers wrongly, or an operator's without metrics, is not worth measuring."""
    with urllib.request.urlopen(f"http://127.0.0.1:{contender.port}{path}", timeout=5) as answer:
        if len(answer.read()) != body_bytes:
            raise SystemExit(f"bench: {contender.name} does not pass the backend's body on")
    if contender.metrics_url is not None:
        with urllib.request.urlopen(contender.metrics_url, timeout=5) as answer:
            if not answer.read():
                raise SystemExit(f"bench: {contender.name} has no metrics")


def _rounds(
    course: Course, running: Sequence[Contender], connections: int, core: int, path: str
) -> Rounds:
    def one(contender: Contender, seconds: int) -> Sample:
        return measure(
            contender.port,
            contender.pids(),
            connections=connections,
            seconds=seconds,
            core=core,
            path=path,
        )

    return in_turn(running, one, rounds=course.rounds, seconds=course.seconds)


def show(rounds: Rounds) -> str:
    """The table of one number of connections, and our ratios to the better peer."""
    head = ["", "requests/s", "CPU µs/request", "p50 µs", "p99 µs", "p99.9 µs", "errors"]
    rows = [
        [
            name,
            report.Spread.of([each.requests_per_s for each in samples]).show(0),
            report.Spread.of([each.cpu_us for each in samples]).show(1),
            f"{report.Spread.of([each.p50_us for each in samples]).median:.0f}",
            f"{report.Spread.of([each.p99_us for each in samples]).median:.0f}",
            report.Spread.of([each.p99_9_us for each in samples]).show(0),
            str(sum(each.errors for each in samples)),
        ]
        for name, samples in rounds.items()
    ]
    compared = to_json(rounds)["ratio_to_better_peer"]
    shown = ", ".join(
        f"{name} {spread['median']:.2f} [{spread['min']:.2f}..{spread['max']:.2f}]"
        for name, spread in compared.items()
    )
    return f"{report.table(head, rows)}\nkakehi / better of nginx and haproxy: {shown}"


def to_json(rounds: Rounds) -> dict[str, Any]:
    """Every sample, and our ratios to whichever peer was better in the same round."""
    ours = rounds[_OURS]
    peers = [samples for name, samples in rounds.items() if name != _OURS]

    def lower(of: str) -> dict[str, float]:
        better = [min(getattr(each, of) for each in peer) for peer in zip(*peers, strict=True)]
        return report.ratios([getattr(each, of) for each in ours], better).to_json()

    best = [max(each.requests_per_s for each in peer) for peer in zip(*peers, strict=True)]
    return {
        "samples": {name: [each.to_json() for each in all_] for name, all_ in rounds.items()},
        "ratio_to_better_peer": {
            "CPU/request": lower("cpu_us"),
            "requests/s": report.ratios([each.requests_per_s for each in ours], best).to_json(),
            "p50": lower("p50_us"),
            "p99": lower("p99_us"),
            "p99.9": lower("p99_9_us"),
        },
    }
