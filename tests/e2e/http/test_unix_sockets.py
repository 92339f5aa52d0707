"""Backends at Unix sockets: every protocol, and what is told of one that cannot be connected to."""

from __future__ import annotations

import json
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.planning.unreached import fault_of
from tests.harness import pki, ports, websocket, wire
from tests.harness.gateway import Gateway
from tests.harness.h2backend import H2Backend
from tests.harness.rawbackend import Exchange, RawBackend


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RawBackend]:
    with RawBackend(path=tmp_path / "app.sock") as made:
        yield made


def logged(gateway: Gateway, host: str, count: int) -> dict[str, Any]:
    """The last line about a host, of so many."""
    return gateway.daemon.wait_for_access(lambda entry: entry["host"] == host, count)[-1]


def test_requests_go_by_a_kept_connection(gateway: Gateway, backend: RawBackend) -> None:
    host = gateway.cluster("socket", {"one": backend.address})
    client = gateway.connect()
    for number in range(20):
        got = client.post(host, b"body %d" % number) if number % 2 else client.get(host)
        assert got.status == 200
    assert len(backend.connections) == 1
    entry = logged(gateway, host, 20)
    assert (entry["backend"], entry["backend_address"]) == ("socket/one", backend.address)


def test_long_bodies_pass_both_ways(gateway: Gateway, backend: RawBackend) -> None:
    body = bytes(range(256)) * 8000

    def echo(exchange: Exchange) -> None:
        exchange.send(wire.response(exchange.read_body()))

    backend.script = echo
    host = gateway.cluster("socket-long", {"one": backend.address})
    client = gateway.connect()
    for _ in range(3):
        assert client.post(host, body).body == body


def test_a_switched_protocol_passes(gateway: Gateway, backend: RawBackend) -> None:
    def switch(exchange: Exchange) -> None:
        exchange.send(websocket.switching(exchange.request))
        connection = exchange.connection
        while len(connection.unread) < 5:
            assert connection.fill()
        exchange.send(b"heard " + bytes(connection.unread[:5]))

    backend.script = switch
    host = gateway.cluster("socket-switch", {"one": backend.address})
    client = gateway.connect()
    client.send(websocket.handshake(host))
    assert client.read_head().status == 101
    client.send(b"hello")
    assert client.read_exactly(11) == b"heard hello"


def test_http_2_in_clear_text_and_over_tls(gateway: Gateway, tmp_path: Path) -> None:
    authority = pki.make("authority", is_ca=True)
    issued = pki.make("shop.internal", issuer=authority)
    root, chain, key = (tmp_path / name for name in ("root.pem", "chain.pem", "key.pem"))
    root.write_bytes(authority.pem)
    chain.write_bytes(issued.chain)
    key.write_bytes(issued.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"])
    plain = H2Backend(path=tmp_path / "plain.sock")
    secure = H2Backend(path=tmp_path / "tls.sock", context=context)
    with plain, secure:
        hosts = [
            gateway.cluster("socket-h2", {"one": plain.address}, protocol="h2"),
            gateway.cluster(
                "socket-h2-tls",
                {"one": secure.address},
                protocol="h2",
                tls={"ca": str(root), "server_name": "shop.internal"},
            ),
        ]
        for host in hosts:
            client = gateway.connect()
            assert client.get(host).body == b"h2"
            assert client.get(host).body == b"h2"


def test_what_is_wrong_with_a_socket_is_told(
    gateway: Gateway, backend: RawBackend, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.sock"
    host = gateway.cluster("socket-missing", {"one": f"unix:{missing}"}, retries=0)
    client = gateway.connect()
    assert client.get(host).status == 502
    entry = logged(gateway, host, 1)
    assert (entry["outcome"], entry["reason"]) == ("connect_failed", "socket_missing")
    told = gateway.daemon.run_cli("explain", f"http://{host}/", "--json", check=True)
    (found,) = json.loads(told.stdout)["backends"]
    assert found["unreached"] == "there is no such socket"
    # Whoever comes later is found, with the next request behind the pause.
    listener = ports.at_path(missing)
    listener.close()
    time.sleep(0.3)
    assert client.get(host).status == 502
    assert logged(gateway, host, 2)["reason"] == "socket_without_listener"
    missing.unlink()
    with RawBackend(path=missing) as late:
        deadline = time.monotonic() + 10
        while client.get(host).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert late.requests


def test_another_backend_serves_where_a_socket_is_missing(
    gateway: Gateway, backend: RawBackend, tmp_path: Path
) -> None:
    members = {"a": f"unix:{tmp_path}/none.sock", "b": backend.address}
    host = gateway.cluster("socket-elsewhere", members)
    client = gateway.connect()
    assert [client.get(host).status for _ in range(6)] == [200] * 6


def test_a_queue_that_is_full_is_a_failed_connect(gateway: Gateway, tmp_path: Path) -> None:
    """connect(2) does not wait for room there: it says that there is none."""
    path = tmp_path / "full.sock"
    listener = ports.at_path(path, backlog=0)
    waiting = []
    try:
        for _ in range(4):
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            waiting.append(one)
            if one.connect_ex(str(path)) != 0:
                break
        host = gateway.cluster("socket-full", {"one": f"unix:{path}"}, retries=0)
        assert gateway.connect().get(host).status == 502
        assert logged(gateway, host, 1)["reason"] == "socket_full"
    finally:
        listener.close()
        for one in waiting:
            one.close()


def test_a_plan_says_that_a_socket_is_not_there(gateway: Gateway, tmp_path: Path) -> None:
    gateway.cluster("socket-planned", {"one": f"unix:{tmp_path}/planned.sock"})
    file = gateway.daemon.repo.directory / "planned.yaml"
    backend: dict[str, Any] = {"address": f"unix:{tmp_path}/other.sock"}
    document = {"clusters": {"planned": {"backends": {"one": backend}}}}
    file.write_text(json.dumps(document))
    try:
        plan = gateway.daemon.run_cli("plan", "--json", check=True)
        (change,) = [
            each for each in json.loads(plan.stdout)["changes"] if each["name"] == "planned/one"
        ]
        assert change["unreached"] == "there is no such socket"
        text = gateway.daemon.run_cli("plan", check=True).stdout
        assert "cannot be connected to as things are: there is no such socket" in text
    finally:
        file.unlink()


def test_whose_socket_it_is(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        check_rights(Path(directory) / "app.sock")
    (tmp_path / "file").touch()
    assert fault_of(f"unix:{tmp_path}/file") == "that is no socket"
    assert fault_of("127.0.0.1:80") is None


def check_rights(path: Path) -> None:
    with ports.at_path(path):
        address = f"unix:{path}"
        path.chmod(0o755)
        assert fault_of(address) is None
        assert "may not write to it" in as_nobody(address)
        path.chmod(0o777)
        assert as_nobody(address) == "None"
        path.parent.chmod(0o700)
        assert as_nobody(address) == f"{path.parent} may not be searched by this user"


def as_nobody(address: str) -> str:
    """What a process of another user says; of this one where that is no other."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        if os.getuid() == 0:
            os.setgroups([])
            os.setuid(65_534)
        os.write(writer, str(fault_of(address)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as told:
        return told.read()
