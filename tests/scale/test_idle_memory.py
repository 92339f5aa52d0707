"""What an idle connection costs a worker: buffers are borrowed while bytes flow only (D15)."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable

import pytest

from bench.measuring.accounting import cpu_ns
from tests.harness import ports
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.nginx import Nginx
from tests.harness.rawclient import Connection

# Processor time of a few milliseconds a second.
pytestmark = pytest.mark.timed

_CONNECTIONS = 5_000
_WARM_UP = 200
_BYTES_MAX = 1024
_IDLE_S = 2.0
# 5,000 connections that do nothing are no work; the control plane's heartbeat is what is left.
_IDLE_CPU_MS_PER_S_MAX = 20.0


def test_an_idle_connection_costs_less_than_a_kibibyte(
    daemons: Callable[..., Kakehi], nginx: Nginx, capsys: pytest.CaptureFixture[str]
) -> None:
    _allow_descriptors(_CONNECTIONS + 1000)
    daemon = daemons(workers=1)
    address = ports.address()
    daemon.repo.commit(
        {
            "kakehi.yaml": {
                "settings": {"access_log": "off"},
                "listeners": {"main": {"address": address}},
                "clusters": {"main": {"backends": {"nginx": {"address": nginx.address}}}},
                "frontends": {"main": {"listeners": ["main"], "cluster": "main"}},
            }
        }
    )
    daemon.start()
    [worker] = daemon.worker_pids()
    with contextlib.ExitStack() as open_connections:
        _open(open_connections, address, _WARM_UP)
        before_kib = resident_kib(worker)
        _open(open_connections, address, _CONNECTIONS)
        spent_ns = cpu_ns([worker])
        time.sleep(_IDLE_S)
        idle_ms_per_s = (cpu_ns([worker]) - spent_ns) / 1e6 / _IDLE_S
        each = (resident_kib(worker) - before_kib) * 1024 / _CONNECTIONS
        assert daemon.status()["workers"][0]["connections"] >= _CONNECTIONS + _WARM_UP
    with capsys.disabled():
        print(f"\n{_CONNECTIONS} idle connections: {each:.0f} B each, {idle_ms_per_s:.2f} ms/s CPU")
    assert each <= _BYTES_MAX
    assert idle_ms_per_s <= _IDLE_CPU_MS_PER_S_MAX


def _open(stack: contextlib.ExitStack, address: str, count: int) -> None:
    """Open connections and leave each idle after an answered request."""
    for _ in range(count):
        connection = stack.enter_context(Connection(address))
        assert connection.get("idle.test", "/empty").status == 204


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the limit of {hard} descriptors is too low for {_CONNECTIONS} connections")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
