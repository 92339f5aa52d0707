"""One measurement: a load generator against a proxy, and the CPU time that the proxy spent on it.

wrk keeps its connections busy, one request at a time each, so that what it measures is a proxy at
its limit (or, with one connection, the sum of all wake-ups). A generator that is slower than the
proxy leaves the proxy's CPU time per request comparable all the same.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.measuring.accounting import cpu_ns, pinned
from bench.measuring.contenders import Contender
from bench.measuring.service import program

_SCRIPT = Path(__file__).with_name("latency.lua")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one proxy did in one round."""

    requests_per_s: float
    cpu_us: float
    p50_us: float
    p99_us: float
    p99_9_us: float
    errors: int

    def to_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)


def measure(
    port: int,
    pids: Sequence[int],
    *,
    connections: int,
    seconds: int,
    core: int,
    path: str,
    scheme: str = "http",
    upload_bytes: int = 0,
    accept_encoding: str | None = None,
    fresh: bool = False,
) -> Sample:
    """Put load on a proxy from `core` and account for it.

    With an upload, requests have a body; `fresh`: each has a connection of its own.
    """
    arguments = [str(upload_bytes), accept_encoding or "", *(["fresh"] if fresh else [])]
    command = wrk(f"{scheme}://127.0.0.1:{port}{path}", connections, seconds, arguments)
    before = cpu_ns(pids)
    with pinned(core):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent_ns = cpu_ns(pids) - before
    found = json.loads(done.stdout.splitlines()[-1])
    requests = max(found["requests"], 1)
    return Sample(
        requests_per_s=found["requests"] * 1e6 / found["duration_us"],
        cpu_us=spent_ns / 1000 / requests,
        p50_us=found["p50_us"],
        p99_us=found["p99_us"],
        p99_9_us=found["p99_9_us"],
        errors=found["errors"],
    )


def wrk(url: str, connections: int, seconds: int, arguments: Sequence[str] = ()) -> list[str]:
    """The command, whose last line tells what was measured; `arguments` are the script's."""
    return [
        program("wrk"),
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        "--timeout=5s",
        f"--script={_SCRIPT}",
        url,
        *(("--", *arguments) if arguments else ()),
    ]


def measuring(
    connections: int, core: int, path: str, *, upload_bytes: int = 0, fresh: bool = False
) -> Callable[[Contender, int], Sample]:
    """Return what `bench.measuring.rounds.in_turn` asks for: `measure`, of any contender."""

    def one(contender: Contender, seconds: int) -> Sample:
        return measure(
            contender.port,
            contender.pids(),
            connections=connections,
            seconds=seconds,
            core=core,
            path=path,
            upload_bytes=upload_bytes,
            fresh=fresh,
        )

    return one
