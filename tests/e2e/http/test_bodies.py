"""Bodies of every framing, in both directions, and the responses that have none."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.harness import wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange, answer
from tests.harness.rawclient import Truncated

SIZES = [0, 1, 2, 1023, 16384, 65535, 65536, 1_000_003]


def _body(size: int) -> bytes:
    return os.urandom(size)


@pytest.mark.parametrize("size", SIZES)
def test_request_body_of_known_length(lane: Lane, size: int) -> None:
    body = _body(size)
    client = lane.connect()
    for _ in range(2):
        assert client.post(lane.host, body).status == 200
    first, second = lane.backend.connections[0].stream().requests
    assert first.body == second.body == body
    assert first.framing == "length"


@pytest.mark.parametrize("chunk", [1, 7, 4096, 65536, 0])
@pytest.mark.parametrize("size", [0, 1, 5000, 300_001])
def test_request_body_in_chunks(lane: Lane, size: int, chunk: int) -> None:
    body = _body(min(size, 2000) if chunk == 1 else size)
    head = lane.head("POST /", "Transfer-Encoding: chunked")
    client = lane.connect()
    for _ in range(2):
        client.send(head + wire.chunked(body, chunk))
        assert client.read_response("POST").status == 200
    first, second = lane.backend.connections[0].stream().requests
    assert first.body == second.body == body
    assert first.framing == "chunked"


def test_chunk_extensions_of_a_request_do_no_harm(lane: Lane) -> None:
    client = lane.connect()
    client.send(lane.head("POST /", "Transfer-Encoding: chunked"))
    client.send(b'5;name=value\r\nhello\r\n6;q="a b"\r\n world\r\n0;last\r\n\r\n')
    assert client.read_response("POST").status == 200
    [request] = lane.backend.connections[0].stream().requests
    assert request.body == b"hello world"


def test_chunk_sizes_may_have_leading_zeros_and_capitals(lane: Lane) -> None:
    client = lane.connect()
    client.send(lane.head("POST /", "Transfer-Encoding: Chunked"))
    client.send(b"000A\r\n0123456789\r\n0b\r\nabcdefghijk\r\n00\r\n\r\n")
    assert client.read_response("POST").status == 200
    [request] = lane.backend.connections[0].stream().requests
    assert request.body == b"0123456789abcdefghijk"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", SIZES)
def test_response_body(lane: Lane, size: int, framing: str) -> None:
    body = _body(size)

    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(body, framing=framing))
        if framing == "close":
            exchange.close()

    lane.backend.script = script
    client = lane.connect()
    response = client.get(lane.host)
    assert response.body == body
    if framing == "length":
        assert response.get("content-length") == b"%d" % size
    if framing != "close":
        assert client.get(lane.host).body == body
        assert len(lane.backend.connections) == 1


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_response_body_in_many_chunks(lane: Lane, chunk: int) -> None:
    body = _body(3000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    lane.backend.script = answer(head + wire.chunked(body, chunk))
    client = lane.connect()
    for _ in range(2):
        assert client.get(lane.host).body == body


def test_a_body_is_passed_on_as_it_comes(lane: Lane) -> None:
    """A long poll or server-sent events: each piece arrives while the next is not sent yet."""

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while exchange.read_more():
            piece = bytes(exchange.connection.unread)
            exchange.connection.unread.clear()
            if piece == b"end":
                exchange.send(b"0\r\n\r\n")
                exchange.body_read = True
                return
            exchange.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("POST /", "Content-Length: 18"))
    response = client.read_head()
    assert response.get("transfer-encoding") == b"chunked"
    for piece in (b"first", b"second", b"last"):
        client.send(piece)
        reader = wire.ChunkReader()
        while bytes(reader.body) != piece:
            assert client.fill()
            reader.feed(client.take_buffer())
    client.send(b"end")
    assert client.read_exactly(5) == b"0\r\n\r\n"
    assert lane.backend.failures == []


@pytest.mark.parametrize("te", [True, False])
def test_request_trailers_reach_the_backend(lane: Lane, te: bool) -> None:
    trailers = [(b"X-Checksum", b"abc123"), (b"X-Count", b"2")]
    fields = ["Transfer-Encoding: chunked", "Trailer: X-Checksum, X-Count"]
    if te:
        fields += ["TE: trailers", "Connection: TE"]
    client = lane.connect()
    client.send(lane.head("POST /", *fields) + wire.chunked(b"hello", 2, trailers))
    assert client.read_response("POST").status == 200
    [request] = lane.backend.connections[0].stream().requests
    assert request.body == b"hello"
    assert [(name.lower(), value) for name, value in request.trailers] == [
        (name.lower(), value) for name, value in trailers
    ]


def test_response_trailers_reach_a_client_that_takes_them(lane: Lane) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n"
    lane.backend.script = answer(head + wire.chunked(b"hello", 2, [(b"X-Checksum", b"abc123")]))
    client = lane.connect()
    for _ in range(2):
        response = client.get(lane.host, "/", "TE: trailers", "Connection: TE")
        assert response.body == b"hello"
        assert [(n.lower(), v) for n, v in response.trailers] == [(b"x-checksum", b"abc123")]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n",
    ],
    ids=["length", "chunked", "none", "404"],
)
def test_responses_to_head_have_no_body(lane: Lane, head: bytes) -> None:
    lane.backend.script = answer(head)
    client = lane.connect()
    for _ in range(3):
        response = client.get(lane.host, method="HEAD")
        assert response.status == int(head[9:12])
        assert response.body == b""
    if b"Content-Length: 1234" in head:
        assert response.get("content-length") == b"1234"
    lane.backend.script = answer(wire.response(b"next"))
    assert client.get(lane.host).body == b"next"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n',
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["204", "304", "304-length", "200-empty"],
)
def test_responses_without_a_body_keep_both_connections(lane: Lane, head: bytes) -> None:
    lane.backend.script = answer(head)
    client = lane.connect()
    for _ in range(3):
        response = client.get(lane.host)
        assert response.status == int(head[9:12])
        assert response.body == b""
        assert response.keeps_alive
    assert len(lane.backend.connections) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\n",
    ],
    ids=["length", "in-chunk", "between-chunks", "before-the-last-line"],
)
@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_response_that_is_cut_short_cannot_be_taken_for_whole(
    lane: Lane, data: bytes, way: str
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.wait_for_go()
        getattr(exchange, way)()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    head = client.read_head()
    assert head.status == 200
    lane.backend.go.set()
    rest = client.read_to_close()
    if head.all("transfer-encoding"):
        reader = wire.ChunkReader()
        reader.feed(rest)
        assert not reader.done
        assert bytes(reader.body) in (b"only this", b"")
    else:
        assert head.get("content-length") == b"100"
        assert rest == b"only this"


def test_a_reset_is_not_the_end_of_a_body_that_lasts_until_close(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(b"only this", framing="close"))
        exchange.wait_for_go()
        exchange.reset()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    head = client.read_head()
    assert head.status == 200
    lane.backend.go.set()
    # In chunks, so that the end can be told from a cut; a client of HTTP/1.0 must see a reset.
    assert not client.read_to_close().endswith(b"0\r\n\r\n")
    old = lane.connect()
    old.send(f"GET / HTTP/1.0\r\nHost: {lane.host}\r\n\r\n".encode())
    with pytest.raises(Truncated):
        old.read_response()


def test_a_request_that_is_cut_short_never_looks_whole(lane: Lane) -> None:
    client = lane.connect()
    client.send(lane.head("POST /", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
    lane.backend.wait_for_requests(1)
    client.close()
    lane.backend.wait_for_ended()
    stream = lane.backend.connections[0].stream()
    assert stream.requests == []
    assert lane.get().status == 200


@pytest.mark.parametrize("direction", ["request", "response"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_byte_by_byte(lane: Lane, direction: str, framing: str) -> None:
    body = b"every byte of this comes alone"
    fields = ["Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {30}"]
    request = lane.head("POST /byte/by/byte", *fields)
    request += wire.chunked(body, 11, [(b"X-End", b"1")]) if framing == "chunked" else body
    answered = wire.response(body, framing=framing)
    client = lane.connect()
    if direction == "request":
        client.send_byte_by_byte(request)
    else:
        lane.backend.script = lambda exchange: (
            exchange.read_body(),
            exchange.send_pieces(answered),
        )
        client.send(request)
    response = client.read_response("POST")
    assert response.status == 200
    [seen] = lane.backend.connections[0].stream().requests
    assert seen.body == body
    if direction == "response":
        assert response.body == body
    assert client.get(lane.host).status == 200


def test_sixteen_mebibytes_both_ways_at_once(lane: Lane) -> None:
    """An echo: neither side may wait for the other to be finished."""
    size = 16 << 20

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        exchange.connection.keep_bytes = False
        echoed = 0
        while echoed < size:
            data = bytes(exchange.connection.unread)
            exchange.connection.unread.clear()
            exchange.send(data)
            echoed += len(data)
            if echoed < size and not exchange.read_more():
                break
        exchange.body_read = True

    lane.backend.script = script
    block = os.urandom(1 << 20)
    client = lane.connect()
    client.send(lane.head("POST /", f"Content-Length: {size}"))
    sent, received = hashlib.sha256(), hashlib.sha256()
    head_read = False
    for _ in range(16):
        client.send(block)
        sent.update(block)
        if not head_read:
            assert client.read_head().status == 200
            head_read = True
        received.update(client.read_exactly(1 << 20))
    assert sent.digest() == received.digest()


def test_truncated_is_what_the_client_helper_reports(lane: Lane) -> None:
    """The other tests rely on this: a short body is an error and never a short result."""

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        exchange.close()

    lane.backend.script = script
    with pytest.raises(Truncated):
        lane.get()
