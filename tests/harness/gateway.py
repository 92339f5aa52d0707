"""One daemon for the whole HTTP and security suite, and the lanes that its tests use.

A lane is a hostname with a frontend, a cluster and one raw backend of its own, made in advance,
so that most tests need no commit. A test that needs other settings adds entities by a commit of
its own (`extend`), which takes as long as a commit takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness import metrics, ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo

LANES = 40

# What the narrow listener allows; the tests of limits stand exactly on these.
NARROW_HEAD_BYTES = 2048
NARROW_HEADER_COUNT = 20
NARROW_BODY_BYTES = 1000

# What the hurried listener allows; long enough for a busy machine, short enough for a suite.
HURRIED_MS = 700

Config = Mapping[str, Mapping[str, Any]]


class Lane:
    """A hostname that leads to one raw backend through the shared daemon."""

    def __init__(self, name: str, listener: str = "main") -> None:
        self.listener = listener
        self.host = f"{name}.test"
        self.name = name
        self.backend = RawBackend()
        self.gateway: Gateway

    def connect(self, listener: str = "", **options: Any) -> rawclient.Connection:
        """Open a connection to the lane's listener, or to another one by name."""
        return self.gateway.connect(listener or self.listener, **options)

    def get(self, path: str = "/", *fields: str, method: str = "GET") -> wire.Response:
        """One request without a body on a connection of its own."""
        with self.connect() as connection:
            return connection.get(self.host, path, *fields, method=method)

    def post(self, body: bytes, path: str = "/", *fields: str) -> wire.Response:
        with self.connect() as connection:
            return connection.post(self.host, body, path, *fields)

    def head(self, start: str, *fields: str) -> bytes:
        """The bytes of a head for this lane: `start` is method and target."""
        lines = [f"{start} HTTP/1.1", f"Host: {self.host}", *fields, "", ""]
        return "\r\n".join(lines).encode("latin-1")


class Gateway:
    """The shared daemon, its listeners and its lanes."""

    def __init__(self, directory: Path, *, workers: int = 1) -> None:
        self.addresses = {
            "main": ports.address(),
            "ipv6": ports.address("::1"),
            "trusting": ports.address(),
            "hurried": ports.address(),
            "narrow": ports.address(),
        }
        self.lanes = deque(Lane(f"lane-{number:02}") for number in range(LANES))
        # The lane that answers whatever the hostname, for requests that have none, or two.
        self.anyhost = Lane("anyhost", "anyhost")
        self.addresses["anyhost"] = ports.address()
        self.admin = ports.address()
        self.daemon = Kakehi(Repo(directory), workers=workers)
        self.daemon.repo.commit({"kakehi.yaml": self.config()})
        self.extensions = 0
        self._connections: list[rawclient.Connection] = []
        self._workers: list[int] = []
        for lane in (*self.lanes, self.anyhost):
            lane.gateway = self

    def start(self) -> None:
        self.daemon.start()
        self._workers = self.daemon.worker_pids()

    def stop(self) -> None:
        try:
            self.daemon.stop()
        finally:
            for lane in (*self.lanes, self.anyhost):
                lane.backend.stop()

    def connect(self, listener: str = "main", **options: Any) -> rawclient.Connection:
        """Open a connection to a listener, by name; the end of the test closes it."""
        connection = rawclient.Connection(self.addresses[listener], **options)
        self._connections.append(connection)
        return connection

    def extend(self, **maps: Config) -> None:
        """Commit one more file with these top-level maps; listeners become known by name."""
        self.extensions += 1
        self.addresses |= {
            name: value["address"] for name, value in maps.get("listeners", {}).items()
        }
        self.daemon.commit({f"extension-{self.extensions}.yaml": maps})

    def cluster(
        self, name: str, backends: Mapping[str, Any], listener: str = "main", **settings: Any
    ) -> str:
        """Add a cluster and a frontend for it by one commit; return the frontend's hostname."""
        host = f"{name}.test"
        entries = {
            key: {"address": value} if isinstance(value, str) else value
            for key, value in backends.items()
        }
        self.extend(
            clusters={name: {**settings, "backends": entries}},
            frontends={name: {"listeners": [listener], "hostname": host, "cluster": name}},
        )
        return host

    def metric(self, name: str, **labels: str) -> float:
        """A number of the admin listener, summed over what has these labels."""
        return metrics.value(self.admin, name, **labels)

    def worker_pid(self) -> int:
        return self._workers[0]

    def end_test(self, lanes: list[Lane]) -> None:
        """Close what the test opened; fail it when a worker died under it."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        gone = [pid for pid in self._workers if not Path(f"/proc/{pid}/cmdline").exists()]
        if gone:
            self._workers = self._wait_for_workers()
        try:
            assert not gone, f"workers died during this test: {gone}\n{self.daemon.log()[-3000:]}"
        finally:
            for lane in lanes:
                lane.backend.reset()

    def _wait_for_workers(self) -> list[int]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            pids = self.daemon.worker_pids()
            if len(pids) == self.daemon.workers and not set(pids) & set(self._workers):
                return pids
            time.sleep(0.1)
        return self.daemon.worker_pids()

    def config(self) -> dict[str, Any]:
        """What the first commit holds."""
        hurried = f"{HURRIED_MS}ms"
        lanes = sorted(set(self.addresses) - {"anyhost"})
        return {
            "settings": {
                "admin": self.admin,
                "access_log": str(self.daemon.access_log),
                "drain_timeout": "3s",
                "generation_header": True,
                "max_connections": 2000,
            },
            "listeners": {
                "main": {"address": self.addresses["main"]},
                "ipv6": {"address": self.addresses["ipv6"]},
                "anyhost": {"address": self.addresses["anyhost"]},
                "trusting": {
                    "address": self.addresses["trusting"],
                    "trusted_proxies": ["127.0.0.0/8"],
                },
                "hurried": {
                    "address": self.addresses["hurried"],
                    "timeouts": {
                        "request_head": hurried,
                        "request_body": hurried,
                        "response_write": hurried,
                        "keep_alive": hurried,
                    },
                },
                "narrow": {
                    "address": self.addresses["narrow"],
                    "limits": {
                        "head_bytes": f"{NARROW_HEAD_BYTES // 1024}KiB",
                        "header_count": NARROW_HEADER_COUNT,
                        "body_bytes": f"{NARROW_BODY_BYTES}B",
                    },
                },
            },
            "clusters": {
                lane.name: {"backends": {"raw": {"address": lane.backend.address}}}
                for lane in (*self.lanes, self.anyhost)
            },
            "frontends": {
                "anyhost": {"listeners": ["anyhost"], "cluster": "anyhost"},
                **{
                    lane.name: {"listeners": lanes, "hostname": lane.host, "cluster": lane.name}
                    for lane in self.lanes
                },
            },
        }
