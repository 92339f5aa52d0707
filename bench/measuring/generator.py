"""Our own load generator and relay (`bench/traffic`, Rust), built when first used.

The generator is for what wrk cannot do: requests that are due at the times of a schedule, whatever
became of those before, so that a stall counts for everybody whom it kept waiting. The relay passes
bytes on unread, at once (`bench.side.floor`) or later (`bench.climb.ladder`).
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measuring.accounting import pinned
from bench.measuring.service import Service
from tests.harness.ports import free_port

_CRATE = Path(__file__).parents[1] / "traffic"
# Beyond what it measures: a start, a warm-up, and the last answers.
_PATIENCE_S = 60


@functools.cache
def built(name: str) -> str:
    """The path of one of the programs, after building what has changed."""
    manifest = str(_CRATE / "Cargo.toml")
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest]
    subprocess.run(command, check=True)
    return str(_CRATE / "target" / "release" / name)


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution, in microseconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


@dataclass(frozen=True, slots=True)
class Load:
    """How a proxy is asked. Exactly one of `rate` (open loop) and `in_flight` (closed) is set."""

    port: int
    path: str = "/"
    rate: float | None = None
    in_flight: int | None = None
    seconds: float = 5.0
    warm_up_s: float = 1.0
    timeout_ms: int = 1000
    connections: int = 1000
    # A connection for each request.
    fresh: bool = False

    def arguments(self) -> list[str]:
        """For the program."""
        pace = ("--rate", self.rate) if self.in_flight is None else ("--in-flight", self.in_flight)
        said: list[object] = [
            *("--address", f"127.0.0.1:{self.port}"),
            *("--path", self.path),
            *pace,
            *("--seconds", self.seconds),
            *("--warm-up", self.warm_up_s),
            *("--timeout-ms", self.timeout_ms),
            *("--connections", self.connections),
        ]
        return [str(each) for each in said] + (["--fresh"] if self.fresh else [])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests that were due while it was measured."""

    seconds: float
    due: int
    # How many ended so: served, refused, failed, timeout, not_connected, cut, malformed.
    ends: Mapping[str, int]
    served_per_s: float
    # From the moment at which a request was due.
    served: Latency
    refused: Latency
    # Of all, however they ended.
    stay: Latency
    # From the moment at which it was sent: what a closed loop would tell.
    service: Latency
    # How late the generator itself was. If that is much, it was the limit.
    late: Latency
    connects: int
    in_flight_mean: float
    # The same of each 100 ms.
    in_flight_slices: Sequence[float]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outcome:
        """From what the generator says."""
        return cls(
            seconds=told["seconds"],
            due=told["due"],
            ends=told["ends"],
            served_per_s=told["served_per_s"],
            served=Latency(**told["served_us"]),
            refused=Latency(**told["refused_us"]),
            stay=Latency(**told["stay_us"]),
            service=Latency(**told["served_service_us"]),
            late=Latency(**told["late_us"]),
            connects=told["connects"],
            in_flight_mean=told["in_flight"]["mean"],
            in_flight_slices=told["in_flight"]["slices"],
        )

    @property
    def arrivals_per_s(self) -> float:
        """The rate at which requests were due."""
        return self.due / self.seconds

    @property
    def timeouts(self) -> int:
        """Requests that had no answer in time."""
        return self.ends["timeout"]

    @property
    def errors(self) -> int:
        """Requests that ended in any way that is neither an answer, a refusal nor a timeout."""
        return self.due - self.ends["served"] - self.ends["refused"] - self.timeouts


def generate(load: Load, core: int) -> Outcome:
    """Put load on a proxy from `core`."""
    patience_s = load.warm_up_s + load.seconds + load.timeout_ms / 1000 + _PATIENCE_S
    command = [built("load"), *load.arguments()]
    with pinned(core):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=patience_s
        )
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command)} said\n{done.stderr}")
    return Outcome.of(json.loads(done.stdout))


def relay(backend_port: int, core: int, output: Path, *, delay_ms: float = 0.0) -> Service:
    """A relay before a backend. With a delay, each direction has half of it."""
    port = free_port()
    command = [
        *(built("relay"), "--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{backend_port}"),
        *("--delay-us", str(round(delay_ms * 500))),
    ]
    return Service(command, port, core, output)
