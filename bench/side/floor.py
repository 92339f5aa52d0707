"""What a request costs beside passing its bytes on unread, which is the least that any proxy costs.

`python -m bench floor`. The floor is our relay (`bench/traffic`): one thread, edge-triggered epoll
and the socket options of the engine, a connection to the backend for each of a client, and nothing
looked at. It and Kakehi are alive at once on one core, and are measured in turn, as in
`bench.side.proxies`. Below 1 is possible: Kakehi shares connections to the backend, and the floor
copies long bodies.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Contender, Setup, backend, haproxy, ours, sink
from bench.measuring.generator import relay
from bench.measuring.load import Sample, measuring
from bench.measuring.rounds import in_turn
from bench.side.figures import beside, table

_FLOOR = "floor"
_PEER = "haproxy"
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
    # The bodies are those of requests.
    is_upload: bool = False
    # Kakehi reads nothing either, and HAProxy stands beside it.
    is_bytes: bool = False


def run(course: Course) -> dict[str, Any]:
    """Measure, print, and write a file for programs; return what is in it."""
    found: dict[str, Any] = {
        "rounds": course.rounds,
        "seconds": course.seconds,
        "profile": course.profile,
        "upload": course.is_upload,
        "bytes": course.is_bytes,
    }
    for body_bytes in course.bodies:
        found[f"{body_bytes} B"] = _body(course, body_bytes)
    print(f"\nwritten to {report.save('floor', found)}")
    return found


def _body(course: Course, body_bytes: int) -> dict[str, Any]:
    core, load_core = two_cores()
    found: dict[str, Any] = {}
    kind = "uploads" if course.is_upload else "bodies"
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name:
        base = Path(name)
        with (
            _backend(base, load_core, course, body_bytes) as (port, path),
            _proxies(base, course, Setup(core, port, course.profile, body_bytes)) as proxies,
            relay(port, core, base / "relay") as floor,
        ):
            running = (*proxies, Contender(_FLOOR, floor.port, None, lambda: floor.pids))
            for connections in course.connections:
                if connections * body_bytes > _FLIGHT_BYTES_MAX:
                    continue
                upload_bytes = body_bytes if course.is_upload else 0
                one = measuring(connections, load_core, path, upload_bytes=upload_bytes)
                rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
                print(
                    f"\n{course.profile}, {connections} connections, {body_bytes} B {kind}, "
                    f"{course.rounds} rounds of {course.seconds} s"
                )
                found[str(connections)] = _show(rounds)
    return found


@contextlib.contextmanager
def _proxies(base: Path, course: Course, setup: Setup) -> Iterator[tuple[Contender, ...]]:
    if not course.is_bytes:
        with ours(base, setup) as kakehi:
            yield (kakehi,)
        return
    setup = replace(setup, is_bytes=True)
    with ours(base, setup) as kakehi, haproxy(base, setup) as peer:
        yield kakehi, peer


@contextlib.contextmanager
def _backend(base: Path, core: int, course: Course, body_bytes: int) -> Iterator[tuple[int, str]]:
    if course.is_upload:
        with sink(base, core) as port:
            yield port, "/"
    else:
        with backend(base, core, body_bytes) as found:
            yield found


def _show(rounds: dict[str, list[Sample]]) -> dict[str, Any]:
    """Print the table and the ratio; return both for programs."""
    print(table(rounds))
    ratio = beside(rounds, "kakehi", [_FLOOR])
    print(f"kakehi / floor: CPU/request {ratio.show()}", flush=True)
    if _PEER in rounds:
        print(f"kakehi / haproxy: CPU/request {beside(rounds, 'kakehi', [_PEER]).show()}")
    samples = {name: [each.to_json() for each in all_] for name, all_ in rounds.items()}
    return {"samples": samples, "ratio": ratio.to_json()}
