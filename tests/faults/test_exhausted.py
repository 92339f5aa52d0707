"""T43: the machine has no port or descriptor left for one more connection to a backend.

That is no word about the backend: whoever needs the connection is told at once, and the backend
gets the very next request that can be brought to it.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import metrics, ports, wire
from tests.harness.daemon import Kakehi
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

_PORTS = 16
_BEYOND = 8
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Held:
    """A backend that holds back its answers to `/held` until each is let go."""

    def __init__(self) -> None:
        self._places = threading.Semaphore(0)

    def __call__(self, exchange: Exchange) -> None:
        if exchange.request.path == "/held":
            self._places.acquire(timeout=60)
        exchange.send(wire.response(b"served"))

    def let_go(self, count: int) -> None:
        self._places.release(count)


def _scene(directory: Path, lack: Callable[[Kakehi], None]) -> dict[str, object]:
    """What clients get where nothing is left for their connections, and right behind that."""
    held, address, admin = Held(), ports.address(), ports.address()
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(held))
        daemon = Kakehi(Repo(directory / "repository"))
        daemon.repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {"access_log": str(daemon.access_log), "admin": admin},
                    "listeners": {"main": {"address": address}},
                    "clusters": {"app": {"backends": {"one": {"address": backend.address}}}},
                    "frontends": {"app": {"listeners": ["main"], "cluster": "app"}},
                }
            }
        )
        stack.enter_context(daemon)
        stack.callback(held.let_go, _PORTS + _BEYOND)
        clients = [stack.enter_context(_client(address, n)) for n in range(_PORTS + _BEYOND)]
        lack(daemon)
        began = time.monotonic()
        for client in clients:
            client.sendall(b"GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n")
        # Those that are refused are answered, while nothing of the others has come.
        refused = daemon.wait_for_access(lambda each: each["outcome"] == "exhausted", _BEYOND)
        took_s = time.monotonic() - began
        held.let_go(1)
        served = daemon.wait_for_access(lambda each: each["status"] == 200, 1)
        last = _asked(address, _PORTS + _BEYOND)
        numbers = metrics.scrape(admin)
        return {
            "told": numbers["kakehi_upstream_exhausted_total"],
            "blamed": numbers["kakehi_backend_connect_errors_total"],
            "refused": len(refused),
            "statuses": sorted({each["status"] for each in refused}),
            "reasons": sorted({each["reason"] for each in refused}),
            "took_s": took_s,
            "served": len(served),
            "last": last,
        }


def _client(address: str, number: int) -> socket.socket:
    """One that takes no port of those that are short."""
    client = socket.socket()
    client.settimeout(20)
    client.bind(("127.0.0.2", 20_000 + number))
    client.connect(ports.split(address))
    return client


def _asked(address: str, number: int) -> str:
    with _client(address, number) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        return client.recv(65_536).decode()


def _without_ports(_: Kakehi) -> None:
    _RANGE.write_text(f"40000 {40_000 + _PORTS - 1}")


def _without_descriptors(daemon: Kakehi) -> None:
    [pid] = daemon.worker_pids()
    used = max(int(each) for each in os.listdir(f"/proc/{pid}/fd")) + 1
    free = used - len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + _PORTS - free, used + _PORTS - free))


@pytest.mark.parametrize(
    ("lack", "reason"),
    [("_without_ports", "no_port_left"), ("_without_descriptors", "no_descriptor_left")],
)
def test_what_this_machine_lacks_is_not_the_backends_fault(lack: str, reason: str) -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", __name__, lack],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["told"] == found["refused"] >= _BEYOND
    assert found["blamed"] == 0
    assert (found["statuses"], found["reasons"]) == ([503], [reason])
    assert found["took_s"] < 5
    assert found["served"] >= 1
    assert found["last"].startswith("HTTP/1.1 200 "), found


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as made:
        json.dump(_scene(Path(made), globals()[sys.argv[1]]), sys.stdout)
