"""What the same change costs nginx and HAProxy, which read everything again: a reload.

`bench/reconfigure --peers`. As many hostnames with a backend each; the first one's backend is
moved, the process is told to reload, and the clock stops when a fresh connection is answered by the
new backend. CPU time is that of the master and of the new worker, without the old one's end.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.changes.tenants import Tenants
from bench.measuring import report
from bench.measuring.accounting import cpu_ns
from bench.measuring.service import Service
from tests.harness.ports import free_port

_RELOADS = 3
_PAUSE_S = 1.0
_DEADLINE_S = 120.0

Configuration = Callable[[Tenants], str]


@dataclass(frozen=True, slots=True)
class _Peer:
    name: str
    command: Sequence[str]
    signal: signal.Signals
    configuration: Configuration


def run(frontends: Sequence[int]) -> dict[str, Any]:
    """Measure and print both peers at these sizes."""
    found: dict[str, Any] = {}
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base:
        directory = Path(base)
        peers = (
            _Peer("nginx", ["nginx", "-c", "{}"], signal.SIGHUP, _nginx_tenants(directory)),
            _Peer("haproxy", ["haproxy", "-W", "-f", "{}"], signal.SIGUSR2, _haproxy_tenants),
        )
        with _two_backends(directory) as ports:
            for peer in peers:
                for count in frontends:
                    wall_ms, cpu_ms = _measure(peer, directory, count, ports)
                    found[f"{peer.name}-{count}"] = {"wall_ms": wall_ms, "cpu_ms": cpu_ms}
                    walls, cpus = report.Spread.of(wall_ms), report.Spread.of(cpu_ms)
                    rows.append([peer.name, str(count), walls.show(0), cpus.show(0)])
    print(f"\nthe same by a reload, {_RELOADS} times, ms")
    print(report.table(["", "frontends", "until served", "CPU"], rows))
    return found


def _measure(
    peer: _Peer, base: Path, count: int, ports: tuple[int, int]
) -> tuple[list[float], list[float]]:
    path = base / f"{peer.name}-{count}"
    tenants = Tenants(count, free_port(), ports[0])
    path.write_text(peer.configuration(tenants))
    command = [word.format(path) for word in peer.command]
    walls, cpus = [], []
    with Service(command, tenants.listener_port, None, base / "output") as service:
        _wait_for(tenants, str(ports[0]))
        for number in range(_RELOADS):
            # The old worker goes, and the master is ready for the next signal.
            time.sleep(_PAUSE_S)
            old = service.pids
            before = cpu_ns(old)
            port = ports[(number + 1) % 2]
            tenants.move(0, port)
            path.write_text(peer.configuration(tenants))
            began = time.perf_counter()
            service.signal(peer.signal)
            _wait_for(tenants, str(port))
            walls.append((time.perf_counter() - began) * 1e3)
            now = {*old, *service.pids}
            cpus.append((cpu_ns(now) - before) / 1e6)
    return walls, cpus


def _wait_for(tenants: Tenants, body: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", tenants.listener_port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/", headers={"Host": tenants.hostname(0)})
                if connection.getresponse().read().decode() == body:
                    return
        time.sleep(0.002)
    raise SystemExit("bench: a reload did not take effect")


@contextlib.contextmanager
def _two_backends(base: Path) -> Iterator[tuple[int, int]]:
    """Two ports that answer by their own number."""
    first, second = free_port(), free_port()
    path = base / "backends.conf"
    servers = "\n".join(
        f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{port}"; }} }}'
        for port in (first, second)
    )
    path.write_text(f"{_nginx_head(base, 'backends')}\nhttp {{ access_log off;\n{servers}\n}}\n")
    with Service(["nginx", "-c", str(path)], first, None, base / "output"):
        yield first, second


def _nginx_head(base: Path, name: str) -> str:
    return (
        f"daemon off; worker_processes 1; user root; pid {base}/{name}.pid;\n"
        f"error_log {base}/error.log;\nevents {{ worker_connections 512; }}"
    )


def _nginx_tenants(base: Path) -> Configuration:
    def configuration(tenants: Tenants) -> str:
        parts = [_nginx_head(base, "tenants"), "http {", "access_log off;"]
        parts += ["server_names_hash_max_size 262144;", "server_names_hash_bucket_size 128;"]
        for tenant in range(tenants.count):
            parts += [
                f"upstream tenant-{tenant:05} {{ server 127.0.0.1:{tenants.port(tenant)}; }}",
                f"server {{ listen 127.0.0.1:{tenants.listener_port};",
                f"server_name {tenants.hostname(tenant)};",
                f"location / {{ proxy_pass http://tenant-{tenant:05}; }} }}",
            ]
        return "\n".join([*parts, "}", ""])

    return configuration


def _haproxy_tenants(tenants: Tenants) -> str:
    parts = [
        "global",
        "  nbthread 1",
        "  maxconn 1000",
        "defaults",
        "  mode http",
        "  timeout client 60s",
        "  timeout server 60s",
        "  timeout connect 3s",
        "frontend public",
        f"  bind 127.0.0.1:{tenants.listener_port}",
        "  use_backend %[req.hdr(Host),field(1,.)]",
    ]
    for tenant in range(tenants.count):
        parts += [
            f"backend tenant-{tenant:05}",
            f"  server backend-1 127.0.0.1:{tenants.port(tenant)}",
        ]
    return "\n".join([*parts, ""])
