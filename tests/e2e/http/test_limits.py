"""Hard limits, on their exact boundary, and what gives way when a listener is full."""

from __future__ import annotations

import time

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.gateway import (
    NARROW_BODY_BYTES,
    NARROW_HEAD_BYTES,
    NARROW_HEADER_COUNT,
    Gateway,
    Lane,
)


def head_of_size(lane: Lane, size: int) -> bytes:
    """A whole head of exactly so many bytes, request line and empty line included."""
    empty = lane.head("GET /", "X-Fill: ")
    return lane.head("GET /", "X-Fill: " + "f" * (size - len(empty)))


def line_of_size(lane: Lane, size: int) -> bytes:
    """A head whose request line alone, without its line end, has exactly so many bytes."""
    fixed = len("GET / HTTP/1.1")
    return lane.head("GET /" + "p" * (size - fixed))


def test_head_bytes_on_the_boundary(lane: Lane) -> None:
    client = lane.connect("narrow")
    for _ in range(2):
        client.send(head_of_size(lane, NARROW_HEAD_BYTES))
        assert client.read_response().status == 200
    client.send(head_of_size(lane, NARROW_HEAD_BYTES + 1))
    assert client.read_response().status == 431
    client.expect_closed()
    assert len(lane.backend.requests) == 2


def test_a_head_without_end_is_431_before_it_ends(lane: Lane) -> None:
    client = lane.connect("narrow")
    client.send(lane.head("GET /", "X-Fill: " + "f" * 3000)[:-2])
    assert client.read_response().status == 431
    client.expect_closed()


def test_the_request_line_is_414(lane: Lane) -> None:
    client = lane.connect("narrow")
    client.send(line_of_size(lane, NARROW_HEAD_BYTES * 2))
    assert client.read_response().status == 414
    client.expect_closed()
    client = lane.connect("narrow")
    client.send(b"GET /" + b"p" * NARROW_HEAD_BYTES * 2)
    assert client.read_response().status == 414
    client.expect_closed()
    assert lane.backend.connections == []


def test_a_long_request_line_within_the_limit_is_served(lane: Lane) -> None:
    client = lane.connect("narrow")
    rest = len(lane.head("GET /")) - len("GET / HTTP/1.1")
    client.send(line_of_size(lane, NARROW_HEAD_BYTES - rest))
    assert client.read_response().status == 200


@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_header_count_on_the_boundary(lane: Lane, byte_by_byte: bool) -> None:
    client = lane.connect("narrow")
    send = client.send_byte_by_byte if byte_by_byte else client.send
    fields = [f"X-{number}: v" for number in range(NARROW_HEADER_COUNT)]
    send(lane.head("GET /", *fields[:-1]))  # and Host
    assert client.read_response().status == 200
    send(lane.head("GET /", *fields))
    assert client.read_response().status == 431
    client.expect_closed()


def test_body_bytes_of_known_length_on_the_boundary(lane: Lane) -> None:
    client = lane.connect("narrow")
    assert client.post(lane.host, b"b" * NARROW_BODY_BYTES).status == 200
    client.send(lane.head("POST /", f"Content-Length: {NARROW_BODY_BYTES + 1}"))
    assert client.read_response().status == 413
    client.expect_closed()
    assert len(lane.backend.requests) == 1


@pytest.mark.parametrize("chunk", [1, 100, 0])
def test_body_bytes_in_chunks_on_the_boundary(lane: Lane, chunk: int) -> None:
    client = lane.connect("narrow")
    head = lane.head("POST /", "Transfer-Encoding: chunked")
    client.send(head + wire.chunked(b"b" * NARROW_BODY_BYTES, chunk))
    assert client.read_response().status == 200
    client.send(head + wire.chunked(b"b" * (NARROW_BODY_BYTES + 1), chunk))
    assert client.read_response().status == 413
    client.expect_closed()
    lane.backend.wait_until(lambda: all(c.ended for c in lane.backend.connections[1:]))
    complete = [r for c in lane.backend.connections for r in c.stream().requests]
    assert [len(request.body) for request in complete] == [NARROW_BODY_BYTES]


def test_413_comes_at_once_with_expect_continue(lane: Lane) -> None:
    client = lane.connect("narrow")
    client.send(lane.head("POST /", "Content-Length: 5000", "Expect: 100-continue"))
    assert client.read_any("POST").status == 413
    client.expect_closed()
    assert lane.backend.connections == []


def test_413_can_be_read_while_the_body_is_being_sent(lane: Lane) -> None:
    """The answer must not be destroyed by a reset because the body was left unread."""
    client = lane.connect("narrow")
    client.send(lane.head("POST /", "Content-Length: 2000000"))
    for _ in range(20):
        if not client.send_tolerating_close(b"b" * 100_000):
            break
    assert client.read_response().status == 413


def _few(gateway: Gateway, lane: Lane, name: str, connections: int) -> None:
    """A listener that takes so many connections, for this lane."""
    gateway.extend(
        listeners={name: {"address": ports.address(), "limits": {"connections": connections}}},
        frontends={name: {"listeners": [name], "hostname": f"{name}.test", "cluster": lane.name}},
    )


def test_a_listener_full_of_requests_refuses_at_once(gateway: Gateway, lane: Lane) -> None:
    _few(gateway, lane, "full", 4)
    lane.backend.script = lambda exchange: (
        exchange.wait_for_go(),
        exchange.send(wire.response()),
    )
    busy = [gateway.connect("full") for _ in range(4)]
    for client in busy:
        client.send(b"GET / HTTP/1.1\r\nHost: full.test\r\n\r\n")
    lane.backend.wait_for_requests(4)
    for _ in range(3):
        started = time.monotonic()
        refused = gateway.connect("full")
        refused.send_tolerating_close(b"GET / HTTP/1.1\r\nHost: full.test\r\n\r\n")
        response = refused.read_response()
        assert response.status == 503
        assert time.monotonic() - started < 2
        refused.expect_closed()
    lane.backend.go.set()
    assert [client.read_response().body for client in busy] == [b"ok"] * 4
    # A place that is free again is given to the next.
    busy[0].close()
    _wait_for_200(gateway, "full", "full.test")
    assert len(lane.backend.requests) == 5


def _wait_for_200(gateway: Gateway, listener: str, host: str) -> None:
    """The proxy learns that a client left by the kernel's word, which may be a moment late."""
    deadline = time.monotonic() + 5
    while True:
        with rawclient.Connection(gateway.addresses[listener]) as client:
            try:
                if client.get(host).status == 200:
                    return
            except (rawclient.Truncated, OSError):
                pass
        assert time.monotonic() < deadline


# A client that was answered less than 20 ms ago is about to ask again: it is not idle.
IDLE_S = 0.1


def test_the_longest_idle_connection_gives_way_to_a_fresh_one(gateway: Gateway, lane: Lane) -> None:
    _few(gateway, lane, "evicting", 4)
    idle = [gateway.connect("evicting") for _ in range(4)]
    for client in idle:
        assert client.get("evicting.test").status == 200
    # The first was used again, so the second has been idle for the longest.
    assert idle[0].get("evicting.test").status == 200
    time.sleep(IDLE_S)
    started = time.monotonic()
    fresh = gateway.connect("evicting")
    assert fresh.get("evicting.test").status == 200
    assert time.monotonic() - started < 2
    idle[1].expect_closed()
    for client in (idle[0], idle[2], idle[3], fresh):
        assert client.get("evicting.test").status == 200


def test_a_limit_that_is_lowered_is_come_to_by_idle_ones(gateway: Gateway, lane: Lane) -> None:
    _few(gateway, lane, "lowered", 20)
    idle = [gateway.connect("lowered") for _ in range(6)]
    for client in idle:
        assert client.get("lowered.test").status == 200
    settings = {"address": gateway.addresses["lowered"], "limits": {"connections": 3}}
    frontend = {"listeners": ["lowered"], "hostname": "lowered.test", "cluster": lane.name}
    gateway.daemon.commit(
        {
            f"extension-{gateway.extensions}.yaml": {
                "listeners": {"lowered": settings},
                "frontends": {"lowered": frontend},
            }
        }
    )
    time.sleep(IDLE_S)
    assert gateway.connect("lowered").get("lowered.test").status == 200
    for client in idle[:4]:
        client.expect_closed()
    for client in idle[4:]:
        assert client.get("lowered.test").status == 200


def test_many_fresh_connections_pass_through_a_full_listener(gateway: Gateway, lane: Lane) -> None:
    _few(gateway, lane, "passing", 4)
    for _ in range(40):  # each of them stays open
        time.sleep(IDLE_S / 4)
        client = gateway.connect("passing")
        assert client.get("passing.test").status == 200


def test_a_connection_with_a_request_in_flight_never_gives_way(
    gateway: Gateway, lane: Lane
) -> None:
    _few(gateway, lane, "mixed", 3)
    lane.backend.script = lambda exchange: (
        exchange.wait_for_go() if exchange.request.path == "/hold" else None,
        exchange.send(wire.response()),
    )
    busy = [gateway.connect("mixed") for _ in range(2)]
    for client in busy:
        client.send(b"GET /hold HTTP/1.1\r\nHost: mixed.test\r\n\r\n")
    lane.backend.wait_for_requests(2)
    for _ in range(10):
        time.sleep(IDLE_S)
        assert gateway.connect("mixed").get("mixed.test").status == 200
    lane.backend.go.set()
    assert [client.read_response().body for client in busy] == [b"ok"] * 2


def test_a_connection_that_is_sending_a_head_does_not_count_as_idle(
    gateway: Gateway, lane: Lane
) -> None:
    _few(gateway, lane, "heads", 2)
    sending = gateway.connect("heads")
    sending.send(b"GET / HTTP/1.1\r\nHost: heads.test\r\n")
    idle = gateway.connect("heads")
    assert idle.get("heads.test").status == 200
    time.sleep(IDLE_S)
    assert gateway.connect("heads").get("heads.test").status == 200
    idle.expect_closed()
    sending.send(b"\r\n")
    assert sending.read_response().status == 200
