"""HTTP/1.1 clients in front of HTTP/2 backends: what it saves that requests share connections.

`python -m bench upstream`. Kakehi over HTTP/2 to the backend beside Kakehi, nginx and HAProxy over
HTTP/1.1, and HAProxy over HTTP/2, all alive at once on one core and measured in turn as in
`bench.side.proxies`. Both backends are nginx.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Setup, backend, contenders, multiplexers
from bench.measuring.load import Sample, measuring
from bench.measuring.rounds import in_turn
from bench.side.course import Course
from bench.side.figures import beside, table

_OURS = "kakehi h2"
_RIVALS = (("kakehi",), ("nginx", "haproxy"), ("haproxy h2",))


def run(course: Course) -> None:
    """Measure, print, and write a file for programs."""
    found: dict[str, Any] = {"rounds": course.rounds, "seconds": course.seconds}
    core, load_core = two_cores()
    if course.one_core:
        load_core = core
    found["one_core"] = course.one_core
    length = course.body_bytes
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name:
        base = Path(name)
        with (
            backend(base, load_core, length) as (port, path),
            backend(base, load_core, length, h2=True) as (h2_port, _),
            contenders(base, Setup(core, port, "lean", length)) as plain,
            multiplexers(base, Setup(core, h2_port, "lean", length, h2=True)) as multiplexed,
        ):
            for connections in course.connections:
                running = (*plain, *multiplexed)
                one = measuring(connections, load_core, path)
                rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
                where = ", load on the same core" if course.one_core else ""
                print(
                    f"\n{connections} connections of clients, {length} B bodies{where}, "
                    f"{course.rounds} rounds of {course.seconds} s"
                )
                found[str(connections)] = _show(rounds)
    print(f"\nwritten to {report.save('upstream', found)}")


def _show(rounds: dict[str, list[Sample]]) -> dict[str, Any]:
    """Print the table and the ratios; return both for programs."""
    print(table(rounds, ("p50_us", "p99_us")))
    found: dict[str, Any] = {
        name: [each.to_json() for each in samples] for name, samples in rounds.items()
    }
    for rivals in _RIVALS:
        title = f"{_OURS} / {'better of ' if len(rivals) > 1 else ''}{' and '.join(rivals)}"
        ratio = beside(rounds, _OURS, rivals)
        print(f"{title}: CPU/request {ratio.show()}", flush=True)
        found[title] = ratio.to_json()
    return found
