"""Constant load from processes of their own: wrk, and an open-loop client that keeps every answer.

wrk shows that nothing fails at full speed; the open-loop client (`tests.harness.loadclient`) keeps
its timetable whatever the proxy does, and says of each request when, by which connection, and what.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import ports, processes

ROOT = Path(__file__).resolve().parents[2]
# Nobody measures for so long: a forgotten generator ends by itself.
_LIFE_S = 280
_END_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the open-loop client; times are of the system's monotonic clock."""

    due: float
    sent: float
    ended: float
    port: int
    host: str
    status: int
    generation: str
    body: str
    error: str

    @property
    def failed(self) -> bool:
        return bool(self.error) or self.status != 200

    @property
    def latency(self) -> float:
        """From when it was due: a request that had to wait for its connection counts in full."""
        return self.ended - self.due


class OpenLoop:
    """`rate` requests a second in all, over `connections`, of which `fresh` are never kept."""

    def __init__(
        self,
        address: str,
        hosts: Sequence[str],
        directory: Path,
        *,
        rate: float,
        connections: int = 8,
        fresh: int = 0,
    ) -> None:
        plan = {
            "address": ports.split(address),
            "hosts": list(hosts),
            "rate": rate,
            "connections": connections,
            "fresh": fresh,
        }
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / f"load-{len(list(directory.glob('load-*')))}"
        self._file.touch()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.loadclient", json.dumps(plan), str(self._file)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._offset = 0
        self._rest = b""
        self.samples: list[Sample] = []
        # (when, client port) of connections that the proxy closed with no request in flight.
        self.closed: list[tuple[float, int]] = []
        self.strays: list[str] = []

    def __enter__(self) -> OpenLoop:
        self.wait_for(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def failures(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.failed]

    def wait_for(self, count: int) -> None:
        """Wait until so many more requests have ended."""
        self._read()
        wanted = len(self.samples) + count
        processes.wait_until(
            lambda: self._read() >= wanted or self._process.poll() is not None,
            f"{count} requests of the load",
            60,
        )
        assert self._process.poll() is None, self._said()

    def stop(self) -> list[Sample]:
        """End it; every request that was sent is answered, or has failed, afterwards."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_DEADLINE_S)
            raise AssertionError("the open-loop client did not end") from None
        said = self._said()
        assert self._process.returncode == 0, said
        self._read()
        assert not self.strays, self.strays[:3]
        return self.samples

    def since(self, when: float) -> list[Sample]:
        """The requests that were sent after a moment of time.monotonic()."""
        self._read()
        return [sample for sample in self.samples if sample.sent > when]

    def _read(self) -> int:
        with self._file.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            kind, *fields = json.loads(line)
            if kind == "request":
                self.samples.append(Sample(*fields))
            elif kind == "closed":
                self.closed.append((fields[0], fields[1]))
            else:
                self.strays.append(line.decode())
        return len(self.samples)

    def _said(self) -> str:
        if self._process.stdout is None or self._process.stdout.closed:
            return ""
        if self._process.poll() is None:
            return ""
        with self._process.stdout as stdout:
            return stdout.read().decode(errors="replace")


class Wrk:
    """wrk on one host, until `finish`; each connection pauses between its requests.

    At full speed it would take both cores of a small machine from what is to be watched under load.
    """

    def __init__(
        self, address: str, host: str, directory: Path, *, connections: int = 16, pause_ms: int = 10
    ) -> None:
        self._address = address
        script = directory / "wrk.lua"
        script.write_text(f"function delay() return {pause_ms} end\n")
        self._process = subprocess.Popen(
            [
                "wrk",
                "--threads=1",
                f"--connections={connections}",
                f"--duration={_LIFE_S}s",
                "--timeout=20s",
                f"--script={script}",
                f"--header=Host: {host}",
                f"http://{address}/",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._connections = connections

    def __enter__(self) -> Wrk:
        processes.wait_until(
            lambda: len(self.ports()) == self._connections or self._process.poll() is not None,
            f"{self._connections} connections of wrk",
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def ports(self) -> set[int]:
        """The local ports of its connections; they stay the same while nobody closes one."""
        return processes.connections(self._process.pid, self._address)

    def finish(self) -> int:
        """End it; return how many requests it made, all of them answered by 200."""
        assert self._process.poll() is None, "wrk ended early"
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=_END_DEADLINE_S)
        assert "Socket errors" not in said, said
        assert "Non-2xx" not in said, said
        found = re.search(r"(\d+) requests in ", said)
        assert found, said
        return int(found[1])


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    assert ordered, "no values"
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
