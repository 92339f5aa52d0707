"""T14, T17: upgrades that are none, and HTTP/2 where HTTP/1.1 is spoken."""

from __future__ import annotations

import pytest

from tests.harness import attack, websocket, wire
from tests.harness.gateway import Gateway, Lane
from tests.harness.rawbackend import Exchange

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: anything\r\n\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"
ASKING = ["Upgrade: websocket", "Connection: Upgrade", KEY, VERSION]


def test_t14_bytes_behind_an_upgrade_wait_for_101(lane: Lane) -> None:
    """CVE-2026-2833: what follows must not reach the backend as a request of its own."""

    def script(exchange: Exchange) -> None:
        exchange.wait_for_go()
        exchange.send(wire.response(b"no", status="403 Forbidden"))

    lane.backend.script = script
    client = lane.connect()
    client.send(websocket.handshake(lane.host) + SMUGGLED)
    lane.backend.wait_for_requests(1)
    lane.backend.settle()
    assert bytes(lane.backend.connections[0].unread) == b""
    lane.backend.go.set()
    refusal = client.read_response()
    assert refusal.status == 403
    lane.backend.script = lane.backend.default
    # Not a tunnel, so the rest is the next request: matched by its own host, which nobody serves.
    if refusal.keeps_alive:
        assert client.read_response().status == 404
    else:
        client.expect_closed()
    assert [request.path for request in attack.forwarded(lane)] == ["/"]


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "426 Upgrade Required"])
def test_t14_a_refused_upgrade_opens_no_tunnel(lane: Lane, status: str) -> None:
    """WebSocket smuggling: the proxy believes in a tunnel, the backend in a next request."""
    lane.backend.script = lambda exchange: exchange.send(wire.response(b"no", status=status))
    client = lane.connect()
    client.send(websocket.handshake(lane.host))
    response = client.read_response()
    assert response.status == int(status[:3])
    if response.keeps_alive:
        client.send(SMUGGLED)
        assert client.read_response().status == 404
    lane.backend.script = lane.backend.default
    assert [request.path for request in attack.forwarded(lane)] == ["/"]


NOT_A_HANDSHAKE = {
    "no-connection-option": ["Upgrade: websocket", KEY, VERSION],
    "no-key": ["Upgrade: websocket", "Connection: Upgrade", VERSION],
    "short-key": [*ASKING[:2], "Sec-WebSocket-Key: c2hvcnQ=", VERSION],
    "no-base64": [*ASKING[:2], "Sec-WebSocket-Key: ????????????????????????", VERSION],
    "two-keys": [*ASKING, KEY],
    "no-version": [*ASKING[:2], KEY],
    "other-version": [*ASKING[:2], KEY, "Sec-WebSocket-Version: 777"],
    "other-protocol": ["Upgrade: foo", *ASKING[1:]],
    "list-of-protocols": ["Upgrade: websocket, h2c", *ASKING[1:]],
    "two-upgrades": ["Upgrade: h2c", *ASKING],
    "h2c": ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"],
    "h2c-hidden": ["Upgrade: h2c", "Connection: HTTP2-Settings", "HTTP2-Settings: AAMAAABk"],
    "tls": ["Upgrade: TLS/1.2", "Connection: Upgrade"],
    "empty": ["Upgrade:", "Connection: Upgrade"],
}


@pytest.mark.parametrize("fields", NOT_A_HANDSHAKE.values(), ids=NOT_A_HANDSHAKE)
def test_t14_what_is_no_handshake_is_not_passed_on_as_one(lane: Lane, fields: list[str]) -> None:
    client = lane.connect()
    response = client.get(lane.host, "/upgrade", *fields)
    seen = attack.forwarded(lane)
    if response.status in (400, 426):
        assert seen == []
        return
    [request] = seen
    assert response.status == 200
    assert request.all("upgrade") == []
    assert request.all("http2-settings") == []
    assert b"upgrade" not in request.elements("connection")


@pytest.mark.parametrize("fields", NOT_A_HANDSHAKE.values(), ids=NOT_A_HANDSHAKE)
def test_t14_an_unasked_101_is_a_502(lane: Lane, fields: list[str]) -> None:
    """The backend switches although the proxy asked for nothing: nobody may follow it."""

    def script(exchange: Exchange) -> None:
        exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    response = client.get(lane.host, "/upgrade", *fields)
    assert response.status in (400, 426, 502)
    client.send_tolerating_close(SMUGGLED)
    lane.backend.script = lane.backend.default
    assert "/smuggled" not in [request.path for request in attack.forwarded(lane)]


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
    ],
    ids=["bare", "h2c", "no-option", "no-protocol", "two-protocols"],
)
def test_t14_a_101_to_something_else_than_asked_is_a_502(lane: Lane, fields: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n")
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    client.send(websocket.handshake(lane.host))
    assert client.read_response().status == 502
    lane.backend.wait_for_ended()


def test_t14_an_upgrade_with_a_body_is_no_upgrade(lane: Lane) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n"
    for framing, data in (("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", body)):
        client = lane.connect()
        client.send(lane.head("GET /body", *ASKING, framing) + data)
        status = client.read_response().status
        assert status in (200, 400)
    for request in attack.forwarded(lane):
        assert request.all("upgrade") == []


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
def test_t14_only_get_upgrades(lane: Lane, method: str) -> None:
    client = lane.connect()
    status = client.get(lane.host, "/", *ASKING, method=method).status
    seen = attack.forwarded(lane)
    assert (status == 400 and not seen) or seen[0].all("upgrade") == []


def test_t14_http_1_0_does_not_upgrade(lane: Lane) -> None:
    """RFC 9110 section 7.8: to be ignored when it comes in HTTP/1.0."""
    client = lane.connect()
    lines = ["GET / HTTP/1.0", f"Host: {lane.host}", *ASKING, "", ""]
    client.send("\r\n".join(lines).encode())
    assert client.read_response().status in (200, 400)
    for request in attack.forwarded(lane):
        assert request.all("upgrade") == []


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@pytest.mark.parametrize("byte_by_byte", [False, True], ids=["whole", "bytes"])
def test_t17_the_http_2_preface_is_refused(anyhost: Lane, byte_by_byte: bool) -> None:
    attack.refused(anyhost, PREFACE + SETTINGS, (400, 505), byte_by_byte=byte_by_byte)


def test_t17_the_preface_inside_a_connection_is_refused(anyhost: Lane) -> None:
    client = anyhost.connect()
    assert client.get(anyhost.host).status == 200
    client.send(PREFACE + SETTINGS)
    assert client.read_response().status in (400, 505)
    client.expect_closed()
    assert len(attack.forwarded(anyhost)) == 1


def test_t17_the_method_of_the_preface_is_no_way_in(gateway: Gateway, anyhost: Lane) -> None:
    attack.refused(anyhost, b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n", (400, 405, 501))


@pytest.mark.parametrize("field", [":authority: evil.test", ":method: POST", ":path: /admin"])
def test_t17_pseudo_headers_are_no_fields(lane: Lane, field: str) -> None:
    attack.refused(lane, lane.head("GET /", field))
