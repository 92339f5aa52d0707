"""Several requests sent before the first response: answered one by one, in order."""

from __future__ import annotations

import threading

import pytest

from tests.harness import wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange


def _name_the_path(exchange: Exchange) -> None:
    exchange.read_body()
    if exchange.request.path == "/slow":
        exchange.wait_for_go()
    exchange.send(wire.response(exchange.request.target + b" " + exchange.request.body))


@pytest.mark.parametrize("count", [2, 50])
def test_order_is_kept(lane: Lane, count: int) -> None:
    lane.backend.script = _name_the_path
    client = lane.connect()
    client.send(b"".join(lane.head(f"GET /{number}") for number in range(count)))
    for number in range(count):
        assert client.read_response().body == b"/%d " % number
    assert client.get(lane.host, "/after").body == b"/after "


def test_a_slow_first_request_holds_back_the_others(lane: Lane) -> None:
    lane.backend.script = _name_the_path
    client = lane.connect()
    client.send(lane.head("GET /slow") + lane.head("GET /1") + lane.head("GET /2"))
    lane.backend.wait_for_requests(1)
    assert client.is_open()
    lane.backend.go.set()
    assert [client.read_response().body for _ in range(3)] == [b"/slow ", b"/1 ", b"/2 "]


def test_bodies_between_pipelined_requests(lane: Lane) -> None:
    lane.backend.script = _name_the_path
    client = lane.connect()
    client.send(
        lane.head("POST /1", "Content-Length: 5")
        + b"first"
        + lane.head("POST /2", "Transfer-Encoding: chunked")
        + wire.chunked(b"second", 2)
        + lane.head("GET /3")
        + lane.head("POST /4", "Content-Length: 0")
        + lane.head("GET /5")
    )
    bodies = [client.read_response().body for _ in range(5)]
    assert bodies == [b"/1 first", b"/2 second", b"/3 ", b"/4 ", b"/5 "]


def test_pipelined_requests_cut_anywhere(lane: Lane) -> None:
    lane.backend.script = _name_the_path
    data = lane.head("POST /1", "Content-Length: 3") + b"abc" + lane.head("GET /2")
    client = lane.connect()
    for cut in range(1, len(data), 7):
        client.send_pieces([data[:cut], data[cut:]])
        assert client.read_response().body == b"/1 abc"
        assert client.read_response().body == b"/2 "


def test_a_response_to_head_in_between(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        body = b"" if exchange.request.method == b"HEAD" else b"body"
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /") + lane.head("HEAD /") + lane.head("GET /"))
    methods = ["GET", "HEAD", "GET"]
    assert [client.read_response(m).body for m in methods] == [b"body", b"", b"body"]


def test_connection_close_drops_what_was_pipelined_after_it(lane: Lane) -> None:
    lane.backend.script = _name_the_path
    client = lane.connect()
    client.send(lane.head("GET /1", "Connection: close") + lane.head("GET /2"))
    assert client.read_response().body == b"/1 "
    client.expect_closed()
    assert [request.path for request in lane.backend.requests] == ["/1"]


def test_a_404_in_between_is_answered_in_its_place(lane: Lane) -> None:
    lane.backend.script = _name_the_path
    client = lane.connect()
    nowhere = b"GET / HTTP/1.1\r\nHost: nowhere.test\r\n\r\n"
    client.send(lane.head("GET /1") + nowhere + lane.head("GET /2"))
    assert [client.read_response().status for _ in range(3)] == [200, 404, 200]


def test_half_a_request_after_a_whole_one_waits(lane: Lane) -> None:
    client = lane.connect()
    second = lane.head("GET /2")
    client.send(lane.head("GET /1") + second[:10])
    assert client.read_response().body == b"ok"
    client.send(second[10:])
    assert client.read_response().body == b"ok"


def test_a_pipeline_of_many_bytes_whose_pieces_end_within_heads(lane: Lane) -> None:
    """It counts as a large transfer, and what waits of a head must not keep it from being read."""
    count = 1500
    lane.backend.script = _name_the_path
    client = lane.connect()
    filling = f"X-Filling: {'x' * 400}"
    data = b"".join(lane.head(f"GET /{number}", filling) for number in range(count))
    pieces = [data[at : at + 99_991] for at in range(0, len(data), 99_991)]
    sender = threading.Thread(target=client.send_pieces, args=[pieces, 0.05])
    sender.start()
    for number in range(count):
        assert client.read_response().body == b"/%d " % number
    sender.join()
