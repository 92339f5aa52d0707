"""WebSocket tunnels: the upgrade, the bytes both ways, and how a tunnel ends."""

from __future__ import annotations

import os

import pytest

from tests.harness import websocket, wire
from tests.harness.gateway import Gateway, Lane
from tests.harness.rawbackend import Exchange
from tests.harness.timing import lasts


def test_messages_go_both_ways(lane: Lane) -> None:
    lane.backend.script = websocket.serve_echo
    client = websocket.Client(lane.connect(), lane.host, "/chat?room=1")
    assert client.response.get("upgrade") == b"websocket"
    assert b"upgrade" in client.response.elements("connection")
    for payload in (b"", b"hello", os.urandom(125), os.urandom(126), os.urandom(70000)):
        client.echo(payload)
    request = lane.backend.last
    assert request.target == b"/chat?room=1"
    assert request.get("upgrade") == b"websocket"
    assert request.elements("connection") == [b"upgrade"]
    assert request.get("sec-websocket-version") == b"13"


def test_control_frames_and_the_closing_handshake(lane: Lane) -> None:
    lane.backend.script = websocket.serve_echo
    client = websocket.Client(lane.connect(), lane.host)
    client.send(b"are you there", websocket.PING)
    assert client.receive() == (websocket.PING, b"are you there")
    client.send(b"\x03\xe8bye", websocket.CLOSE)
    assert client.receive() == (websocket.CLOSE, b"\x03\xe8bye")
    client.connection.expect_closed()


def test_the_backend_may_speak_first_and_in_the_same_segment(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        welcome = websocket.frame(b"welcome", websocket.TEXT)
        exchange.send(websocket.switching(exchange.request) + welcome)
        exchange.wait_for_end()

    lane.backend.script = script
    client = websocket.Client(lane.connect(), lane.host)
    assert client.receive() == (websocket.TEXT, b"welcome")


def test_bytes_after_the_upgrade_are_held_until_101(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.wait_for_go()
        websocket.serve_echo(exchange)

    lane.backend.script = script
    client = lane.connect()
    early = websocket.frame(b"early", masked=True)
    client.send(websocket.handshake(lane.host) + early)
    lane.backend.wait_for_requests(1)
    lane.backend.settle()
    assert bytes(lane.backend.connections[0].unread) == b""
    lane.backend.go.set()
    assert client.read_response().status == 101
    assert websocket.read_frame(client.read_exactly) == (websocket.BINARY, b"early")


def test_a_refused_upgrade_is_an_ordinary_response(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        upgrade = exchange.request.all("upgrade")
        status = "403 Forbidden" if upgrade else "200 OK"
        exchange.send(wire.response(b"not here", status=status))

    lane.backend.script = script
    client = lane.connect()
    client.send(websocket.handshake(lane.host))
    response = client.read_response()
    assert (response.status, response.body) == (403, b"not here")
    if response.keeps_alive:
        assert client.get(lane.host).status == 200


@pytest.mark.parametrize("side", ["client", "backend"])
@pytest.mark.parametrize("way", ["close", "reset"])
def test_the_end_of_one_side_ends_the_other(lane: Lane, side: str, way: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(websocket.switching(exchange.request))
        if side == "backend":
            exchange.wait_for_go()
            getattr(exchange, way)()
        exchange.wait_for_end()

    lane.backend.script = script
    client = websocket.Client(lane.connect(), lane.host)
    if side == "client":
        getattr(client.connection, way)()
        lane.backend.wait_for_ended()
    else:
        lane.backend.go.set()
        client.connection.expect_closed()


def test_a_client_that_has_finished_sending_still_gets_what_the_backend_says(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(websocket.switching(exchange.request))
        exchange.wait_for_end()  # the half-close, passed on
        exchange.send(b"last words")
        exchange.close()

    lane.backend.script = script
    client = websocket.Client(lane.connect(), lane.host)
    client.connection.half_close()
    assert client.connection.read_to_close() == b"last words"


def test_a_backend_that_has_finished_sending_still_gets_what_the_client_says(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(websocket.switching(exchange.request) + b"last words")
        exchange.half_close()
        exchange.wait_for_end()

    lane.backend.script = script
    client = websocket.Client(lane.connect(), lane.host)
    assert client.connection.read_to_close() == b"last words"
    client.connection.send(b"and mine")
    client.connection.close()
    lane.backend.wait_for_ended()
    assert bytes(lane.backend.connections[0].unread) == b"and mine"


def test_a_large_transfer_through_a_tunnel(lane: Lane) -> None:
    lane.backend.script = websocket.serve_echo
    client = websocket.Client(lane.connect(), lane.host)
    payload = os.urandom(1 << 20)
    for _ in range(8):
        client.echo(payload)


@pytest.mark.timed
def test_an_idle_tunnel_times_out(gateway: Gateway, lane: Lane) -> None:
    host = gateway.cluster(
        "short-tunnel", {"raw": lane.backend.address}, timeouts={"tunnel": "500ms"}
    )
    lane.backend.script = websocket.serve_echo

    def attempt() -> None:
        client = websocket.Client(lane.connect(), host)
        client.echo(b"in time")
        client.connection.expect_closed()

    lasts(0.5, attempt)
    lane.backend.wait_for_ended()


def test_a_tunnel_outlives_the_timeouts_of_requests(lane: Lane) -> None:
    """Keep-alive, body and head timeouts of the listener are for requests and not for tunnels."""

    def script(exchange: Exchange) -> None:
        exchange.send(websocket.switching(exchange.request))
        # The time that passes is what is tested: twice the listener's timeouts.
        exchange.connection.socket.settimeout(1.5)
        try:
            assert exchange.connection.socket.recv(1) == b"never"
        except TimeoutError:
            exchange.connection.socket.settimeout(None)
        exchange.send(b"still here")
        exchange.wait_for_end()

    lane.backend.script = script
    client = websocket.Client(lane.connect("hurried"), lane.host)
    assert client.connection.read_exactly(10) == b"still here"


def test_a_tunnel_lives_through_commits(gateway: Gateway, lane: Lane) -> None:
    lane.backend.script = websocket.serve_echo
    client = websocket.Client(lane.connect(), lane.host)
    for number in range(2):
        gateway.cluster(f"unconcerned-{number}", {"raw": lane.backend.address})
        client.echo(b"still here")


def test_after_a_tunnel_the_upstream_connection_is_not_used_again(lane: Lane) -> None:
    lane.backend.script = websocket.serve_echo
    websocket.Client(lane.connect(), lane.host).connection.close()
    lane.backend.wait_for_ended()
    lane.backend.script = lane.backend.default
    assert lane.get().status == 200
    assert len(lane.backend.connections) == 2


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"


def _serve_lines(exchange: Exchange) -> None:
    """A made-up protocol: what comes is sent back in capitals."""
    exchange.wait_for_go()
    exchange.send(SWITCHED % b"lines/1")
    unread = exchange.connection.unread
    while exchange.read_more():
        exchange.send(bytes(unread).upper())
        unread.clear()


def _upgrading(gateway: Gateway, lane: Lane, *protocols: str) -> str:
    """The hostname of a frontend to the lane's backend that names these protocols."""
    host = f"up{len(protocols)}-{lane.host}"
    frontend = {
        "listeners": ["main"],
        "hostname": host,
        "cluster": lane.name,
        "upgrades": list(protocols),
    }
    gateway.extend(frontends={f"up{len(protocols)}-{lane.name}": frontend})
    return host


def test_a_protocol_that_is_named_is_passed_on(gateway: Gateway, lane: Lane) -> None:
    """T14: what comes behind the request waits for the 101."""
    host = _upgrading(gateway, lane, "Lines/1", "websocket")
    lane.backend.script = _serve_lines
    client = lane.connect()
    head = f"POST /x HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: lines/1\r\n\r\n"
    client.send(head.encode() + b"early ")
    lane.backend.wait_for_requests(1)
    lane.backend.settle()
    request = lane.backend.last
    assert (request.method, request.get("upgrade")) == (b"POST", b"lines/1")
    assert request.elements("connection") == [b"upgrade"]
    assert not lane.backend.connections[-1].unread
    lane.backend.go.set()
    response = client.read_response()
    assert (response.status, response.get("upgrade")) == (101, b"lines/1")
    client.send(b"late")
    assert client.read_exactly(10) == b"EARLY LATE"


@pytest.mark.parametrize("protocol", ["lines/2", "h2c", "HTTP/2.0"])
def test_a_protocol_that_is_not_named_is_left_out(
    gateway: Gateway, lane: Lane, protocol: str
) -> None:
    with lane.connect() as client:
        response = client.get(lane.host, "/", "Connection: upgrade", f"Upgrade: {protocol}")
    assert response.status == 200
    assert lane.backend.last.get("upgrade") is None
    assert b"upgrade" not in lane.backend.last.elements("connection")


def test_no_protocol_may_be_named_at_all(gateway: Gateway, lane: Lane) -> None:
    host = _upgrading(gateway, lane)
    with lane.connect() as client:
        client.send(websocket.handshake(host))
        assert client.read_response().status == 200
    assert lane.backend.last.get("upgrade") is None


def test_another_protocol_than_was_asked_for_is_no_answer(gateway: Gateway, lane: Lane) -> None:
    host = _upgrading(gateway, lane, "a", "b", "websocket")

    def script(exchange: Exchange) -> None:
        exchange.send(SWITCHED % b"b")

    lane.backend.script = script
    with lane.connect() as client:
        response = client.get(host, "/", "Connection: upgrade", "Upgrade: a")
    assert response.status == 502
