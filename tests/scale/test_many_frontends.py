"""Many frontends arrive in one commit: they load, they route, and they take little."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from bench.changes.tenants import Tenants
from tests.harness import ports
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.nginx import Nginx
from tests.harness.rawclient import Connection

# How long a load takes, and memory at a size that would leave others little.
pytestmark = pytest.mark.timed

_FRONTENDS = 100_000 if os.environ.get("KAKEHI_TEST_LONG") else 10_000
# Each with a cluster and a backend. A worker holds them typed, the daemon with their places too.
_WORKER_BYTES_MAX = 16 * 1024
_DAEMON_BYTES_MAX = 32 * 1024
_LOAD_S_MAX = 60.0 * _FRONTENDS / 10_000


@pytest.mark.timeout(300 + _LOAD_S_MAX)
def test_many_frontends_load_and_route(
    daemons: Callable[..., Kakehi], nginx: Nginx, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = daemons(workers=1)
    port = ports.free_port()
    _, nginx_port = ports.split(nginx.address)
    few = Tenants(1, port, nginx_port, access_log=str(daemon.access_log))
    daemon.repo.commit(few.files())
    daemon.start()
    assert daemon.process is not None
    pids = daemon.process.pid, *daemon.worker_pids()
    before = [resident_kib(pid) for pid in pids]

    many = Tenants(_FRONTENDS, port, nginx_port, access_log=str(daemon.access_log))
    sha = daemon.repo.commit(many.files())
    began = time.monotonic()
    daemon.wait(sha, int(_LOAD_S_MAX))
    took_s = time.monotonic() - began
    daemon_bytes, worker_bytes = (
        (resident_kib(pid) - kib) * 1024 / _FRONTENDS for pid, kib in zip(pids, before, strict=True)
    )
    with capsys.disabled():
        print(
            f"\n{_FRONTENDS} frontends in {took_s:.1f} s; each, with its cluster and backend: "
            f"daemon {daemon_bytes:.0f} B, worker {worker_bytes:.0f} B"
        )

    assert daemon.status()["entities"]["frontend"] == _FRONTENDS
    sampled = range(0, _FRONTENDS, 997)
    with Connection(f"127.0.0.1:{port}") as connection:
        for tenant in sampled:
            response = connection.get(many.hostname(tenant), "/echo-host")
            assert response.status == 200
            assert response.body.decode().startswith(many.hostname(tenant))
        assert connection.get("tenant-999999.example.com").status == 404
    served = daemon.wait_for_access(lambda entry: entry["status"] == 200, len(sampled))
    assert [entry["frontend"] for entry in served] == [f"tenant-{each:05}" for each in sampled]

    assert took_s <= _LOAD_S_MAX
    assert worker_bytes <= _WORKER_BYTES_MAX
    assert daemon_bytes <= _DAEMON_BYTES_MAX
