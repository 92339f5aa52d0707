"""What a request costs beside passing its bytes on unread, which is the least that any proxy costs.

`python -m bench floor`. The floor is our relay (`bench/traffic`): one thread, edge-triggered epoll
and the socket options of the engine, a connection to the backend for each of a client, and nothing
looked at. It and Kakehi are alive at once on one core, and are measured in turn, as in
`bench.proxies`. Below 1 is possible: Kakehi shares connections to the backend, and the floor
copies long bodies.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.accounting import two_cores
from bench.contenders import Contender, Setup, backend, ours
from bench.generator import relay
from bench.load import Sample, measure

_WARM_UP_S = 1
_FLOOR = "floor"
# More than that on the way at once would take minutes a round, and measure the machine's memory.
_FLIGHT_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Course:
    """What is measured: how often, how long, with how many connections and how long bodies."""

    rounds: int
    seconds: int
    connections: Sequence[int]
    bodies: Sequence[int]
    profile: str


def run(course: Course) -> dict[str, Any]:
    """Measure, print, and write a file for programs; return what is in it."""
    found: dict[str, Any] = {
        "rounds": course.rounds,
        "seconds": course.seconds,
        "profile": course.profile,
    }
    for body_bytes in course.bodies:
        found[f"{body_bytes} B"] = _body(course, body_bytes)
    print(f"\nwritten to {report.save('floor', found)}")
    return found


def _body(course: Course, body_bytes: int) -> dict[str, Any]:
    core, load_core = two_cores()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name:
        base = Path(name)
        with (
            backend(base, load_core, body_bytes) as (port, path),
            ours(base, Setup(core, port, course.profile, body_bytes)) as kakehi,
            relay(port, core, base / "relay") as floor,
        ):
            running = (kakehi, Contender(_FLOOR, floor.port, None, lambda: floor.pids))
            for connections in course.connections:
                if connections * body_bytes > _FLIGHT_BYTES_MAX:
                    continue
                rounds = _rounds(course, running, connections, load_core, path)
                print(
                    f"\n{course.profile}, {connections} connections, {body_bytes} B bodies, "
                    f"{course.rounds} rounds of {course.seconds} s"
                )
                found[str(connections)] = _show(rounds)
    return found


def _rounds(
    course: Course, running: Sequence[Contender], connections: int, core: int, path: str
) -> dict[str, list[Sample]]:
    def one(contender: Contender, seconds: int) -> Sample:
        pids = contender.pids()
        return measure(
            contender.port, pids, connections=connections, seconds=seconds, core=core, path=path
        )

    rounds: dict[str, list[Sample]] = {contender.name: [] for contender in running}
    for contender in running:
        one(contender, _WARM_UP_S)
    for number in range(course.rounds):
        for contender in running if number % 2 == 0 else reversed(running):
            rounds[contender.name].append(one(contender, course.seconds))
    return rounds


def _show(rounds: dict[str, list[Sample]]) -> dict[str, Any]:
    """Print the table and the ratio; return both for programs."""
    rows = [
        [
            name,
            report.Spread.of([each.requests_per_s for each in samples]).show(0),
            report.Spread.of([each.cpu_us for each in samples]).show(1),
            str(sum(each.errors for each in samples)),
        ]
        for name, samples in rounds.items()
    ]
    print(report.table(["", "requests/s", "CPU µs/request", "errors"], rows))
    cpu = {name: [each.cpu_us for each in samples] for name, samples in rounds.items()}
    ratio = report.ratios(cpu["kakehi"], cpu[_FLOOR])
    print(f"kakehi / floor: CPU/request {ratio.show()}", flush=True)
    samples = {name: [each.to_json() for each in all_] for name, all_ in rounds.items()}
    return {"samples": samples, "ratio": ratio.to_json()}
