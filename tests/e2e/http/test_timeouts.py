"""Every timeout of a listener and of a cluster: that it fires, when, and what the peers see.

How long each lasts is measured from before the peer does what starts the timer: see `timing`.
"""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from tests.harness import wire
from tests.harness.gateway import HURRIED_MS, Gateway, Lane
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.timing import lasts

# Whether a timer fires when it should: what computes beside it makes it late.
pytestmark = pytest.mark.timed

TIMEOUT_S = HURRIED_MS / 1000


def test_half_a_request_head_is_408(lane: Lane) -> None:
    def attempt() -> Connection:
        client = lane.connect("hurried")
        client.send(lane.head("GET /")[:-2])
        assert client.read_response().status == 408
        return client

    lasts(TIMEOUT_S, attempt).expect_closed()
    assert lane.backend.connections == []


def test_a_head_that_drips_is_408_all_the_same(lane: Lane) -> None:
    """The whole head has one deadline: a byte now and then does not put it off (slowloris)."""

    def attempt() -> Connection:
        client = lane.connect("hurried")
        started = time.monotonic()
        client.send(lane.head("GET /")[:-2])
        while time.monotonic() - started < TIMEOUT_S * 3:
            if not client.send_tolerating_close(b"X-Drip: 1\r\n") or client.has_bytes():
                return client
            time.sleep(0.05)  # the drip
        raise AssertionError("a head may drip")

    assert lasts(TIMEOUT_S, attempt).read_response().status == 408


def test_half_a_head_on_a_reused_connection_is_408(lane: Lane) -> None:
    def attempt() -> Connection:
        client = lane.connect("hurried")
        assert client.get(lane.host).status == 200
        client.send(b"GET / HT")
        assert client.read_response().status == 408
        return client

    lasts(TIMEOUT_S, attempt).expect_closed()


def test_a_connection_that_sends_nothing_is_closed(lane: Lane) -> None:
    data = lasts(TIMEOUT_S, lambda: lane.connect("hurried").read_to_close())
    assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("framing", ["length", "chunked", "nothing"])
def test_a_request_body_that_stops_is_408(lane: Lane, framing: str) -> None:
    def attempt() -> Connection:
        client = lane.connect("hurried")
        if framing == "length":
            client.send(lane.head("POST /", "Content-Length: 100") + b"only this")
        elif framing == "nothing":
            client.send(lane.head("POST /", "Content-Length: 100"))
        else:
            client.send(lane.head("POST /", "Transfer-Encoding: chunked") + b"64\r\nonly this")
        assert client.read_response().status == 408
        return client

    lasts(TIMEOUT_S, attempt).expect_closed()
    lane.backend.wait_until(lambda: all(c.ended for c in lane.backend.connections))
    for connection in lane.backend.connections:
        assert connection.stream().requests == []


def test_a_request_body_that_goes_on_slowly_is_taken(lane: Lane) -> None:
    client = lane.connect("hurried")
    client.send(lane.head("POST /", "Content-Length: 16"))
    started = time.monotonic()
    for _ in range(16):
        client.send(b"x")
        time.sleep(TIMEOUT_S / 8)  # twice the timeout in all; the pause is what is tested
    assert time.monotonic() - started > TIMEOUT_S * 1.5
    assert client.read_response().status == 200


def test_no_response_head_is_504(gateway: Gateway, lane: Lane) -> None:
    host = gateway.cluster(
        "no-head", {"raw": lane.backend.address}, timeouts={"response_head": "500ms"}
    )
    lane.backend.script = lambda exchange: exchange.wait_for_end()

    def attempt() -> None:
        asked = len(lane.backend.requests)
        assert lane.connect().get(host).status == 504
        assert len(lane.backend.requests) == asked + 1

    lasts(0.5, attempt)
    lane.backend.wait_for_ended()


def test_half_a_response_head_is_504(gateway: Gateway, lane: Lane) -> None:
    host = gateway.cluster(
        "half-head", {"raw": lane.backend.address}, timeouts={"response_head": "500ms"}
    )

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nX-Half: 1\r\n")
        exchange.wait_for_end()

    lane.backend.script = script
    assert lasts(0.5, lambda: lane.connect().get(host).status) == 504
    lane.backend.wait_for_ended()


def test_the_response_head_may_wait_for_a_long_upload(gateway: Gateway, lane: Lane) -> None:
    """The clock of the response starts when the request has been sent."""
    host = gateway.cluster(
        "upload-first", {"raw": lane.backend.address}, timeouts={"response_head": "500ms"}
    )
    client = lane.connect()
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n".encode())
    for _ in range(10):
        time.sleep(0.1)  # twice the timeout in all; the pause is what is tested
        client.send(b"x")
    assert client.read_response().status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_pause_in_an_upload_is_not_the_fault_of_the_backend(
    gateway: Gateway, lane: Lane, framing: str
) -> None:
    """The client may pause for as long as request_body lets it, whatever response_head is."""
    host = gateway.cluster(
        f"pausing-{framing}", {"raw": lane.backend.address}, timeouts={"response_head": "400ms"}
    )
    client = lane.connect()
    field = "Content-Length: 10" if framing == "length" else "Transfer-Encoding: chunked"
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n".encode())
    parts = [b"hello", b"world"] if framing == "length" else [b"5\r\nhello\r\n", b"0\r\n\r\n"]
    client.send(parts[0])
    time.sleep(1.2)  # the pause is what is tested
    client.send(parts[1])
    assert client.read_response().status == 200


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_response_body_that_stops_is_cut(gateway: Gateway, lane: Lane, framing: str) -> None:
    host = gateway.cluster(
        f"stopping-{framing}",
        {"raw": lane.backend.address},
        timeouts={"response_body": "500ms"},
    )
    head = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n",
        "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    }[framing]

    def script(exchange: Exchange) -> None:
        exchange.send(head + b"only this")
        exchange.wait_for_end()

    lane.backend.script = script

    def attempt() -> bytes:
        client = lane.connect()
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert client.read_head().status == 200
        return client.read_to_close()

    rest = lasts(0.5, attempt)
    assert b"only this" in rest
    assert not rest.endswith(b"0\r\n\r\n")
    lane.backend.wait_for_ended()


def test_a_response_body_that_goes_on_slowly_is_passed_on(gateway: Gateway, lane: Lane) -> None:
    host = gateway.cluster(
        "slow-body", {"raw": lane.backend.address}, timeouts={"response_body": "600ms"}
    )

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        exchange.send_pieces(b"0123456789", 1, 0.15)

    lane.backend.script = script
    assert lane.connect().get(host).body == b"0123456789"


def test_a_client_that_reads_nothing_is_given_up(lane: Lane) -> None:
    """Its buffers are full, the backend is stopped, and after response_write both are freed."""

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        block = b"x" * (1 << 20)
        while True:
            exchange.send(block)

    lane.backend.script = script

    def attempt() -> None:
        given_up = sum(connection.ended for connection in lane.backend.connections)
        lane.connect("hurried", receive_buffer=4096).send(lane.head("GET /"))
        lane.backend.wait_for_ended(given_up + 1)

    lasts(TIMEOUT_S, attempt)


def test_a_client_that_reads_slowly_is_served(lane: Lane) -> None:
    size = 12 << 20
    lane.backend.script = lambda exchange: exchange.send(wire.response(b"x" * size))
    client = lane.connect("hurried", receive_buffer=65536)
    client.send(lane.head("GET /"))
    assert client.read_head().status == 200
    read = len(client.take_buffer())
    pause_at = read
    while read < size:
        taken = len(client.socket.recv(65536))
        assert taken
        read += taken
        if read - pause_at > size // 8:
            pause_at = read
            time.sleep(TIMEOUT_S / 5)  # the slow reader
    assert read == size


def test_the_body_of_an_error_page_does_not_wait_for_the_rest_of_an_upload(lane: Lane) -> None:
    client = lane.connect("hurried")
    client.send(b"POST / HTTP/1.1\r\nHost: nowhere.test\r\nContent-Length: 1000000\r\n\r\nstart")
    started = time.monotonic()
    assert client.read_response().status == 404
    assert time.monotonic() - started < 3
    client.expect_closed()


def test_a_request_may_be_silent_while_its_response_comes(lane: Lane) -> None:
    """A watch, or gRPC in both directions: `request_body` counts until the response's head."""

    def stream(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(8):
            exchange.send(b"2\r\nhi\r\n")
            time.sleep(TIMEOUT_S / 2)  # the stream
        exchange.send(b"0\r\n\r\n")
        exchange.close()

    lane.backend.script = stream
    with lane.connect("hurried") as client:
        client.send(lane.head("POST /", "Transfer-Encoding: chunked") + b"1\r\nx\r\n")
        head = client.read_head()
        assert head.status == 200
        assert client.read_to_close() == b"2\r\nhi\r\n" * 8 + b"0\r\n\r\n"


def test_a_response_that_is_silent_lives_while_the_request_comes(gateway: Gateway) -> None:
    """Only the silence of both ends it, and then within `response_body`."""
    ended = threading.Event()

    def listen(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        exchange.read_body()
        ended.set()

    with RawBackend(listen) as backend:
        timeouts = {"response_body": f"{HURRIED_MS}ms"}
        host = gateway.cluster("both-silent", {"one": backend.address}, timeouts=timeouts)
        with gateway.connect() as client:
            head = f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.send(head.encode())
            assert client.read_head().status == 200
            for _ in range(8):
                client.send(b"1\r\nx\r\n")
                time.sleep(TIMEOUT_S / 2)  # the stream
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                client.read_to_close()
            assert TIMEOUT_S * 0.4 < time.monotonic() - began < TIMEOUT_S * 8


def test_a_slow_upload_is_no_late_response(gateway: Gateway) -> None:
    """`response_head` begins when the backend has taken the last byte, not when the kernel has."""
    size = 3_000_000

    def read_slowly(exchange: Exchange) -> None:
        left = (
            size
            - len(exchange.connection.received)
            + exchange.connection.received.find(b"\r\n\r\n")
            + 4
        )
        while left > 0:
            left -= len(exchange.connection.socket.recv(min(left, 40_000)))
            time.sleep(0.05)  # 800 KB/s
        exchange.send(wire.response())
        exchange.close()

    with RawBackend(read_slowly) as backend:
        timeouts = {"response_head": f"{HURRIED_MS}ms"}
        host = gateway.cluster("slow-upload", {"one": backend.address}, timeouts=timeouts)
        with gateway.connect() as client:
            head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n"
            client.send(head.encode() + bytes(size))
            assert client.read_response("POST").status == 200


def test_a_backend_that_takes_an_upload_and_says_nothing_is_504(gateway: Gateway) -> None:
    """The other side of it: what does not go on is late."""

    def stop(exchange: Exchange) -> None:
        exchange.backend.stopping.wait(30)

    with RawBackend(stop) as backend:
        timeouts = {"response_head": f"{HURRIED_MS}ms"}
        host = gateway.cluster("no-answer", {"one": backend.address}, timeouts=timeouts)

        def attempt() -> Connection:
            client = gateway.connect()
            head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
            client.send(head.encode() + bytes(100))
            assert client.read_response("POST").status == 504
            return client

        lasts(TIMEOUT_S, attempt).close()
