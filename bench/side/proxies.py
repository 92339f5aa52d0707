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
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Contender, Setup, backend, contenders
from bench.measuring.load import Sample, measuring
from bench.measuring.rounds import in_turn
from bench.side.course import Course
from bench.side.figures import Rounds, beside, table

_OURS = "kakehi"
_COMPARED = {
    "CPU/request": "cpu_us",
    "requests/s": "requests_per_s",
    "p50": "p50_us",
    "p99": "p99_us",
    "p99.9": "p99_9_us",
}


def run(course: Course, profiles: Sequence[str]) -> None:
    """Measure, print, and write a file for programs."""
    found = {profile: _profile(course, profile) for profile in profiles}
    path = report.save("proxies", {"rounds": course.rounds, "seconds": course.seconds, **found})
    print(f"\nwritten to {path}")


def _profile(course: Course, profile: str) -> dict[str, Any]:
    core, load_core = two_cores()
    if course.one_core:
        load_core = core
    found: dict[str, Any] = {
        "body_bytes": course.body_bytes,
        "one_core": course.one_core,
        "splices": course.splices,
        "fresh": course.fresh,
    }
    with (
        tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base,
        backend(Path(base), load_core, course.body_bytes) as (port, path),
        contenders(Path(base), _setup(course, core, port, profile)) as running,
    ):
        for contender in running:
            _require(contender, path, course.body_bytes)
        for connections in course.connections:
            one = measuring(connections, load_core, path, fresh=course.fresh)
            rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
            title = f"{profile}, {connections} connections, {course.body_bytes} B bodies"
            where = ", load on the same core" if course.one_core else ""
            where += ", a connection for each request" if course.fresh else ""
            print(f"\n{title}{where}, {course.rounds} rounds of {course.seconds} s", flush=True)
            print(show(rounds))
            found[str(connections)] = to_json(rounds)
    return found


def _setup(course: Course, core: int, port: int, profile: str) -> Setup:
    return Setup(core, port, profile, course.body_bytes, splices=course.splices)


def _require(contender: Contender, path: str, body_bytes: int) -> None:
    """A proxy that answers wrongly, or an operator's without metrics, is not worth measuring."""
    with urllib.request.urlopen(f"http://127.0.0.1:{contender.port}{path}", timeout=5) as answer:
        if len(answer.read()) != body_bytes:
            raise SystemExit(f"bench: {contender.name} does not pass the backend's body on")
    if contender.metrics_url is not None:
        with urllib.request.urlopen(contender.metrics_url, timeout=5) as answer:
            if not answer.read():
                raise SystemExit(f"bench: {contender.name} has no metrics")


def show(rounds: Rounds[Sample]) -> str:
    """The table of one number of connections, and our ratios to the better peer."""
    ratios = _ratios(rounds)
    shown = ", ".join(f"{name} {spread.show()}" for name, spread in ratios.items())
    shown_table = table(rounds, ("p50_us", "p99_us", "p99_9_us"))
    return f"{shown_table}\nkakehi / better of nginx and haproxy: {shown}"


def to_json(rounds: Rounds[Sample]) -> dict[str, Any]:
    """Every sample, and our ratios to whichever peer was better in the same round."""
    return {
        "samples": {name: [each.to_json() for each in all_] for name, all_ in rounds.items()},
        "ratio_to_better_peer": {
            name: spread.to_json() for name, spread in _ratios(rounds).items()
        },
    }


def _ratios(rounds: Rounds[Sample]) -> dict[str, report.Spread]:
    peers = [name for name in rounds if name != _OURS]
    return {name: beside(rounds, _OURS, peers, field) for name, field in _COMPARED.items()}
