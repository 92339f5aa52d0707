"""HTTP/2 side by side: what a request costs when a connection carries 1, 10 or 100 at a time.

`python -m bench h2`. All three end TLS with HTTP/2 on one core in front of the same backend over
HTTP/1.1, alive at once, and are measured in turn as in `bench.side.proxies`. The load is h2load's,
one thread on the other core, whose streams are always busy.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.accounting import cpu_ns, pinned, two_cores
from bench.measuring.contenders import Contender, Setup, backend, contenders
from bench.measuring.rounds import in_turn
from bench.measuring.service import program
from bench.side.figures import beside, table
from bench.side.tls import certificate

_OURS = "kakehi"
_RATE = re.compile(r"^finished in [\d.]+\w+, ([\d.]+) req/s", re.MULTILINE)
_COUNTS = re.compile(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Course:
    """What is measured: how often, how long, over how many connections with how many streams."""

    rounds: int
    seconds: int
    connections: int
    streams: Sequence[int]
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What one proxy did in one round."""

    requests_per_s: float
    cpu_us: float
    errors: int


def run(course: Course) -> None:
    """Measure, print, and write a file for programs."""
    found: dict[str, Any] = {"rounds": course.rounds, "seconds": course.seconds}
    core, load_core = two_cores()
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name:
        base = Path(name)
        files = certificate(base, "ecdsa")
        with (
            backend(base, load_core, course.body_bytes) as (port, path),
            contenders(base, Setup(core, port, "lean", course.body_bytes, files)) as running,
        ):
            for streams in course.streams:
                print(f"\n{course.body_bytes} B bodies")
                found[f"streams {streams}"] = race(course, streams, running, load_core, [path])
    print(f"\nwritten to {report.save('h2', found)}")


def race(
    course: Course, streams: int, running: Sequence[Contender], core: int, request: Sequence[str]
) -> dict[str, Any]:
    """Measure all of them in turn, round by round, and print the figures.

    `request` is a path, and what else h2load is told of a request.
    """

    def one(contender: Contender, seconds: int) -> Sample:
        path, *options = request
        command = [
            *(program("h2load"), "--threads=1", f"--clients={course.connections}"),
            *(f"--max-concurrent-streams={streams}", f"--duration={seconds}", *options),
            f"https://127.0.0.1:{contender.port}{path}",
        ]
        return _measure(command, contender.pids(), core)

    rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
    print(
        f"{course.connections} connections with {streams} streams each, "
        f"{course.rounds} rounds of {course.seconds} s"
    )
    return _show(rounds)


def _measure(command: Sequence[str], pids: Sequence[int], core: int) -> Sample:
    before = cpu_ns(pids)
    with pinned(core):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent_ns = cpu_ns(pids) - before
    rate, counts = _RATE.search(done.stdout), _COUNTS.search(done.stdout)
    if rate is None or counts is None or "Application protocol: h2" not in done.stdout:
        raise SystemExit(f"bench: h2load said\n{done.stdout}")
    succeeded, failed, errored = (int(each) for each in counts.groups())
    return Sample(float(rate[1]), spent_ns / 1000 / max(succeeded, 1), failed + errored)


def _show(rounds: dict[str, list[Sample]]) -> dict[str, Any]:
    """Print the table and our ratio to the better peer; return both for programs."""
    print(table(rounds))
    ratio = beside(rounds, _OURS, [name for name in rounds if name != _OURS])
    print(f"kakehi / better of nginx and haproxy: CPU/request {ratio.show()}", flush=True)
    return {
        "samples": {name: [asdict(each) for each in samples] for name, samples in rounds.items()},
        "ratio": ratio.show(),
    }
