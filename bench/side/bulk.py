"""Short requests beside long downloads: how long those wait who want little.

`python -m bench bulk`. All proxies are alive at once on one core and measured in turn as in
`bench.side.proxies`: clients download as fast as they can, each over a connection of its own, and
beside them short requests are due at a steady rate, whatever became of those before. Backend and
both kinds of clients share the other core. What the downloads carry is told too: who lets them
starve has short waits.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.accounting import cpu_ns, pinned, two_cores
from bench.measuring.contenders import SHORT, Contender, Setup, backend, contenders
from bench.measuring.generator import Load, generate
from bench.measuring.load import wrk
from bench.measuring.rounds import in_turn
from bench.side.figures import beside, table

_OURS = "kakehi"
_COMPARED = {
    "p50": "p50_us",
    "p99": "p99_us",
    "p99.9": "p99_9_us",
    "downloads/s": "downloads_per_s",
}
_WARM_UP_S = 1


@dataclass(frozen=True, slots=True)
class Course:
    """What is measured: how often, how long, and how much of either kind."""

    rounds: int
    seconds: int
    downloads: int
    body_bytes: int
    # Of short requests, a second.
    rate: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What one proxy did in one round: of the short requests, and of the downloads."""

    requests_per_s: float
    # For each of both kinds, so that it says nothing but that nobody was idle.
    cpu_us: float
    p50_us: float
    p99_us: float
    p99_9_us: float
    errors: int
    downloads_per_s: float


def run(course: Course) -> dict[str, Any]:
    """Measure, print, and write a file for programs; return what is in it."""
    core, load_core = two_cores()
    with (
        tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base,
        backend(Path(base), load_core, course.body_bytes) as (port, path),
        contenders(Path(base), Setup(core, port, "lean", course.body_bytes)) as running,
    ):
        for contender in running:
            _require(contender, path, course.body_bytes)

        def one(contender: Contender, seconds: int) -> Sample:
            return _measure(course, contender, path, seconds, load_core)

        rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
    print(
        f"\n{course.rate} short requests a second beside {course.downloads} downloads of "
        f"{course.body_bytes} B, {course.rounds} rounds of {course.seconds} s"
    )
    found = {**asdict(course), **_show(rounds)}
    print(f"\nwritten to {report.save('bulk', found)}")
    return found


def _require(contender: Contender, path: str, body_bytes: int) -> None:
    """A proxy that answers wrongly is not worth measuring."""
    for each, length in ((path, body_bytes), (SHORT, 64)):
        url = f"http://127.0.0.1:{contender.port}{each}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            if len(answer.read()) != length:
                raise SystemExit(f"bench: {contender.name} does not pass the backend's body on")


def _measure(course: Course, contender: Contender, path: str, seconds: int, core: int) -> Sample:
    url = f"http://127.0.0.1:{contender.port}{path}"
    # They begin before the short requests count, and end behind the last of those.
    lasting = _WARM_UP_S + seconds + 1
    load = Load(
        contender.port,
        SHORT,
        rate=course.rate,
        seconds=seconds,
        warm_up_s=_WARM_UP_S,
        timeout_ms=5000,
        connections=64,
    )
    with _downloads(wrk(url, course.downloads, lasting), core) as downloading:
        before = cpu_ns(contender.pids())
        outcome = generate(load, core)
        spent_ns = cpu_ns(contender.pids()) - before
        told, _ = downloading.communicate(timeout=lasting + 10)
    downloads = json.loads(told.splitlines()[-1])
    downloads_per_s = downloads["requests"] * 1e6 / downloads["duration_us"]
    served = outcome.served
    return Sample(
        requests_per_s=outcome.served_per_s,
        cpu_us=spent_ns
        / 1000
        / ((outcome.served_per_s + downloads_per_s) * (seconds + _WARM_UP_S)),
        p50_us=served.p50,
        p99_us=served.p99,
        p99_9_us=served.p99_9,
        errors=outcome.due - outcome.ends["served"] + downloads["errors"],
        downloads_per_s=downloads_per_s,
    )


@contextlib.contextmanager
def _downloads(command: list[str], core: int) -> Iterator[subprocess.Popen[str]]:
    with (
        pinned(core),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running,
    ):
        try:
            yield running
        finally:
            running.kill()


def _show(rounds: dict[str, list[Sample]]) -> dict[str, Any]:
    """Print the table and our ratios to the better peer; return both for programs."""
    print(table(rounds, ("p50_us", "p99_us", "p99_9_us")))
    carried = {
        name: report.Spread.of([each.downloads_per_s for each in samples])
        for name, samples in rounds.items()
    }
    print("downloads/s: " + ", ".join(f"{name} {each.show(0)}" for name, each in carried.items()))
    peers = [name for name in rounds if name != _OURS]
    ratios = {name: beside(rounds, _OURS, peers, field) for name, field in _COMPARED.items()}
    shown = ", ".join(f"{name} {spread.show()}" for name, spread in ratios.items())
    print(f"kakehi / better of nginx and haproxy: {shown}", flush=True)
    return {
        "samples": {name: [asdict(each) for each in all_] for name, all_ in rounds.items()},
        "ratio_to_better_peer": {name: spread.to_json() for name, spread in ratios.items()},
    }
