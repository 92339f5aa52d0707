"""What an idle connection costs a worker: buffers are borrowed while bytes flow only (D15)."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bench.measuring.accounting import cpu_ns
from tests.harness import pki, ports, tls
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.nginx import Nginx
from tests.harness.rawclient import Connection
from tests.harness.repo import Content
from tests.harness.tls import TlsConnection

# Processor time of a few milliseconds a second.
pytestmark = pytest.mark.timed

_CONNECTIONS = 5_000
_TLS_CONNECTIONS = 2_000
_WARM_UP = 200
_BYTES_MAX = 512
# Less than one buffer of a record would be.
_TLS_BYTES_MAX = 4608
_IDLE_S = 2.0
# 5,000 connections that do nothing are no work; the control plane's heartbeat is what is left.
_IDLE_CPU_MS_PER_S_MAX = 20.0


def test_an_idle_connection_costs_less_than_half_a_kibibyte(
    daemons: Callable[..., Kakehi], nginx: Nginx, capsys: pytest.CaptureFixture[str]
) -> None:
    _allow_descriptors(_CONNECTIONS + 1000)
    daemon, address = _started(daemons, nginx, {}, {})
    each, idle_ms_per_s = _cost(daemon, lambda: Connection(address), _CONNECTIONS)
    with capsys.disabled():
        print(f"\n{_CONNECTIONS} idle connections: {each:.0f} B each, {idle_ms_per_s:.2f} ms/s CPU")
    assert each <= _BYTES_MAX
    assert idle_ms_per_s <= _IDLE_CPU_MS_PER_S_MAX


def test_an_idle_connection_over_tls_holds_no_buffer(
    daemons: Callable[..., Kakehi], nginx: Nginx, capsys: pytest.CaptureFixture[str]
) -> None:
    """What rustls has of it stays: the state of the connection and a key for each direction."""
    _allow_descriptors(_TLS_CONNECTIONS + 1000)
    authority = pki.make("Kakehi test authority", is_ca=True)
    pair = pki.make("idle.test", issuer=authority)
    kept = {"idle": {"certificate": "tls/idle.crt", "private_key": "tls/idle.key"}}
    files: dict[str, Content] = {"tls/idle.crt": pair.chain, "tls/idle.key": pair.key}
    daemon, address = _started(daemons, nginx, {"certificates": kept}, files)
    context = tls.trusting(authority)
    each, idle_ms_per_s = _cost(
        daemon, lambda: TlsConnection(address, context, "idle.test"), _TLS_CONNECTIONS
    )
    with capsys.disabled():
        print(f"\n{_TLS_CONNECTIONS} over TLS: {each:.0f} B each, {idle_ms_per_s:.2f} ms/s CPU")
    assert each <= _TLS_BYTES_MAX
    assert idle_ms_per_s <= _IDLE_CPU_MS_PER_S_MAX


def _started(
    daemons: Callable[..., Kakehi],
    nginx: Nginx,
    also: Mapping[str, Any],
    files: Mapping[str, Content],
) -> tuple[Kakehi, str]:
    """A worker with one listener: over TLS, if there are certificates."""
    daemon, address = daemons(workers=1), ports.address()
    listener = {"address": address, **({"protocol": "https"} if also else {})}
    document: dict[str, Any] = {
        "settings": {"access_log": "off"},
        "listeners": {"main": listener},
        "clusters": {"main": {"backends": {"nginx": {"address": nginx.address}}}},
        "frontends": {"main": {"listeners": ["main"], "cluster": "main"}},
        **also,
    }
    daemon.repo.commit({"kakehi.yaml": document, **files})
    daemon.start()
    return daemon, address


def _cost(daemon: Kakehi, connect: Callable[[], Connection], count: int) -> tuple[float, float]:
    """(bytes of the worker, its processor time in ms a second for all) of idle connections."""
    [worker] = daemon.worker_pids()
    with contextlib.ExitStack() as open_connections:
        _open(open_connections, connect, _WARM_UP)
        before_kib = resident_kib(worker)
        _open(open_connections, connect, count)
        spent_ns = cpu_ns([worker])
        time.sleep(_IDLE_S)
        idle_ms_per_s = (cpu_ns([worker]) - spent_ns) / 1e6 / _IDLE_S
        each = (resident_kib(worker) - before_kib) * 1024 / count
        assert daemon.status()["workers"][0]["connections"] >= count + _WARM_UP
    return each, idle_ms_per_s


def _open(stack: contextlib.ExitStack, connect: Callable[[], Connection], count: int) -> None:
    """Open connections and leave each idle after an answered request."""
    for _ in range(count):
        connection = stack.enter_context(connect())
        assert connection.get("idle.test", "/empty").status == 204


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the limit of {hard} descriptors is too low for {_CONNECTIONS} connections")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
