"""T16, T36: what backends send wrong, by fault or on purpose, and what clients must not see."""

from __future__ import annotations

import threading

import pytest

from tests.harness import rawclient, wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

BAD = {
    "length-and-coding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"
    b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "coding-and-length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"
    b"\r\n\r\n0\r\n\r\n",
    "lengths-that-differ": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
    b"Content-Length: 2\r\n\r\nhello",
    "lengths-in-a-list": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 2\r\n\r\nhello",
    "length-plus": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "length-minus": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "length-hex": b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "length-empty": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
    "length-overflow": b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    "coding-unknown": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nhello",
    "coding-identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
    "coding-not-last": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "coding-twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding-two-lines": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding-in-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "status-of-two-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status-of-four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status-below-100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "status-a-word": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "status-signed": b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
    "two-spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "version-2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version-small": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no-version": b"200 OK\r\nContent-Length: 0\r\n\r\n",
    "icy": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "line-feed-only": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "nul-in-reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "carriage-return-in-reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "no-colon": b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
    "space-before-colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "empty-name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n",
    "space-in-name": b"HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 0\r\n\r\n",
    "nul-in-value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "carriage-return-in-value": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n"
    b"Content-Length: 0\r\n\r\n",
    "line-feed-in-value": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "space-before-name": b"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 0\r\n\r\n",
    "103-with-a-length": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + EVIL,
    "101-with-a-coding": b"HTTP/1.1 101 Switching Protocols\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
@pytest.mark.parametrize("byte_by_byte", [False, True], ids=["whole", "bytes"])
def test_t16_malformed_responses_are_502(lane: Lane, data: bytes, byte_by_byte: bool) -> None:
    def script(exchange: Exchange) -> None:
        if byte_by_byte:
            exchange.send_pieces(data)
        else:
            exchange.send(data)
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    response = client.get(lane.host)
    assert response.status == 502
    assert b"evil" not in response.body and b"hello" not in response.body
    lane.backend.wait_for_ended()
    lane.backend.script = lane.backend.default
    if response.keeps_alive:
        assert client.get(lane.host).body == b"ok"
    assert lane.get().body == b"ok"


def test_t16_folded_fields_are_502_or_one_line(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"
    )
    response = lane.get()
    if response.status == 200:
        assert response.get("x") in (b"a b", b"a  b")
    else:
        assert response.status == 502


@pytest.mark.parametrize(
    "body",
    [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n\0",
        b"g\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\nZ: w\r\n\r\n",
    ],
)
def test_t16_malformed_chunks_are_cut_off(lane: Lane, body: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    try:
        response = client.read_response()
    except rawclient.Truncated as cut:
        assert cut.partial in (b"", b"hello")
    else:
        assert response.status == 502 or (body[1:2] == b" " and response.body == b"hello")
    if body[1:2] != b" ":
        lane.backend.wait_for_ended()
    lane.backend.script = lane.backend.default
    assert lane.get().body == b"ok"


EXTRA = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204-with-length": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\n\r\n",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("together", [True, False], ids=["one-segment", "later"])
@pytest.mark.parametrize("data", EXTRA.values(), ids=EXTRA)
def test_t16_a_second_response_is_never_used(lane: Lane, data: bytes, together: bool) -> None:
    """Response splitting and queue poisoning: the next client must not get the leftover."""

    def script(exchange: Exchange) -> None:
        if (
            exchange.ordinal == 1
            and exchange.connection.number == lane.backend.connections[0].number
        ):
            exchange.send(data + EVIL if together else data)
            if not together:
                exchange.wait_for_go()
                exchange.send(EVIL)
        else:
            exchange.send(wire.response())

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    response = client.read_response()
    assert response.status == int(data[9:12])
    assert response.body in (b"good", b"")
    if not together:
        lane.backend.go.set()
        lane.backend.wait_for_ended()
    assert client.get(lane.host).body == b"ok"
    for _ in range(3):
        assert lane.get().body == b"ok"
    lane.backend.wait_until(lambda: lane.backend.connections[0].ended)
    assert len(lane.backend.connections[0].requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
def test_t16_a_body_after_head_is_never_used(lane: Lane, head: bytes) -> None:
    def script(exchange: Exchange) -> None:
        if exchange.request.method == b"HEAD":
            exchange.send(head + EVIL)
        else:
            exchange.send(wire.response())

    lane.backend.script = script
    client = lane.connect()
    assert client.get(lane.host, method="HEAD").status == 200
    assert client.get(lane.host).body == b"ok"
    assert len(lane.backend.connections) == 2


def test_t16_bytes_on_an_idle_connection_are_never_a_response(lane: Lane) -> None:
    assert lane.get().body == b"ok"
    lane.backend.connections[0].send(EVIL)
    lane.backend.wait_for_ended()
    assert lane.get().body == b"ok"
    assert len(lane.backend.connections) == 2


def test_t16_a_response_before_the_request_is_never_used(lane: Lane) -> None:
    """A backend that talks first: what it says was no answer to anything."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(wire.response(exchange.request.target))

    lane.backend.script = script
    for number in range(5):
        assert lane.get(f"/{number}").body == b"/%d" % number


def test_t16_204_and_304_with_a_framed_body(lane: Lane) -> None:
    for status in ("204 No Content", "304 Not Modified"):
        data = f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbody".encode()
        lane.backend.script = lambda exchange, data=data: exchange.send(data)
        client = lane.connect()
        response = client.get(lane.host)
        assert response.status in (int(status[:3]), 502)
        assert response.status == 502 or response.body == b""
        lane.backend.script = lane.backend.default
        if response.keeps_alive:
            assert client.get(lane.host).body == b"ok"
        assert lane.get().body == b"ok"


@pytest.mark.parametrize("coding", [b"Transfer-Encoding: chunked", b"Content-Length: 3"])
def test_t16_101_with_framing_is_no_tunnel_with_a_body(lane: Lane, coding: bytes) -> None:
    from tests.harness import websocket

    def script(exchange: Exchange) -> None:
        switching = websocket.switching(exchange.request)
        exchange.send(switching[:-2] + coding + b"\r\n\r\n")
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    client.send(websocket.handshake(lane.host))
    response = client.read_response()
    assert response.status == 502 or response.all(coding.split(b":")[0].decode()) == []


def test_t36_a_giant_response_head_is_502(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nX: " + b"v" * (4 << 20) + b"\r\n\r\n")
        exchange.wait_for_end()

    lane.backend.script = script
    assert lane.get().status == 502
    lane.backend.wait_for_ended()


def test_t36_a_response_head_without_end_is_502(lane: Lane) -> None:
    """Field after field, for ever: the backend is cut off long before its data is read."""

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            exchange.send(b"X-Flood: 1\r\n" * 1000)

    lane.backend.script = script
    assert lane.get().status == 502
    lane.backend.wait_for_ended()
    assert lane.backend.connections[0].sent < 64 << 20


def test_t36_too_many_response_fields_are_502(lane: Lane) -> None:
    fields = [(f"X-{number}", "v") for number in range(3000)]
    lane.backend.script = lambda exchange: exchange.send(wire.response(fields=fields))
    assert lane.get().status == 502


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 X"])
def test_t36_interim_responses_without_end_are_bounded(lane: Lane, status: str) -> None:
    cut_off = threading.Event()

    def script(exchange: Exchange) -> None:
        block = f"HTTP/1.1 {status}\r\n\r\n".encode() * 100
        try:
            for _ in range(100_000):
                exchange.send(block)
        except OSError:
            cut_off.set()
            raise

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    try:
        response = client.read_response()
    except rawclient.Truncated:
        pass
    else:
        assert response.status == 502
    assert cut_off.wait(20)
    assert len(client.interim) < 1000
    lane.backend.script = lane.backend.default
    assert lane.get().body == b"ok"


def test_t36_trailers_without_end_are_bounded(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        while True:
            exchange.send(b"X-Flood: 1\r\n" * 1000)

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /", "TE: trailers", "Connection: TE"))
    # A 502 if all of it came with the head.
    try:
        assert client.read_response().status == 502
    except rawclient.Truncated as cut:
        assert cut.partial == b""
    lane.backend.wait_for_ended()


def test_t36_chunk_extensions_without_end_are_bounded(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=")
        while True:
            exchange.send(b"y" * 65536)

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    try:
        assert client.read_response().status == 502
    except rawclient.Truncated as cut:
        assert cut.partial == b""
    lane.backend.wait_for_ended()
