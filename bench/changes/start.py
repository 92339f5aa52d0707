"""What a start costs: processor time of daemon, zygote and worker until a first commit is served.

`.venv/bin/python -m bench.changes.start [RUNS]`. The state directory is new, the configuration has
one frontend, and the start is over when its listener takes a connection. What is put off until then
(`later`) is measured two seconds later.
"""

from __future__ import annotations

import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.measuring.accounting import children, cpu_ns
from tests.harness import ports
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

_RUNS = 7
_LATER_S = 2.0
_SERVED_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start, in seconds."""

    wall: float
    cpu: float
    later: float


def measure(base: Path, later_s: float = _LATER_S) -> Start:
    """Start a daemon in a directory of its own, and end it."""
    address = ports.address()
    repo = Repo(base / "repository")
    repo.commit({"kakehi.yaml": _configuration(address)})
    daemon = Kakehi(repo)
    began = time.monotonic()
    daemon.start(wait=False)
    try:
        _wait_for(address)
        wall = time.monotonic() - began
        cpu = _spent(daemon)
        time.sleep(later_s)
        return Start(wall, cpu, _spent(daemon))
    finally:
        daemon.stop()


def _configuration(address: str) -> dict[str, object]:
    return {
        "listeners": {"main": {"address": address}},
        "clusters": {"web": {"backends": {"a": {"address": "127.0.0.1:9"}}}},
        "frontends": {"web": {"listeners": ["main"], "hostname": "a.test", "cluster": "web"}},
    }


def _wait_for(address: str) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + _SERVED_S_MAX
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def _spent(daemon: Kakehi) -> float:
    assert daemon.process is not None
    pid = daemon.process.pid
    return cpu_ns([pid, *children(pid)]) / 1e9


def main(arguments: list[str]) -> None:
    """Measure so many starts."""
    runs = int(arguments[0]) if arguments else _RUNS
    with tempfile.TemporaryDirectory() as base:
        starts = [measure(Path(base) / str(number)) for number in range(runs)]
    for name in ("wall", "cpu", "later"):
        figures = [getattr(start, name) for start in starts]
        print(f"{name:5}  median {statistics.median(figures):.3f} s  best {min(figures):.3f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
