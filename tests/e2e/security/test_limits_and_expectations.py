"""T27, T28: limits on their exact boundary, however the bytes arrive, and odd expectations."""

from __future__ import annotations

import pytest

from tests.harness import attack, wire
from tests.harness.gateway import (
    NARROW_BODY_BYTES,
    NARROW_HEAD_BYTES,
    NARROW_HEADER_COUNT,
    Lane,
)
from tests.harness.rawbackend import Exchange

BOTH_WAYS = pytest.mark.parametrize("byte_by_byte", [False, True], ids=["whole", "bytes"])


def _sized(lane: Lane, size: int, start: str, fill_in_line: bool) -> bytes:
    empty = lane.head(f"{start}", "X-Fill: ")
    fill = "f" * (size - len(empty))
    return (
        lane.head(start + fill, "X-Fill: ") if fill_in_line else lane.head(start, f"X-Fill: {fill}")
    )


@BOTH_WAYS
@pytest.mark.parametrize("fill_in_line", [False, True], ids=["field", "line"])
@pytest.mark.parametrize("over", [-1, 0, 1, 2])
def test_t27_head_bytes(lane: Lane, over: int, fill_in_line: bool, byte_by_byte: bool) -> None:
    client = lane.connect("narrow")
    data = _sized(lane, NARROW_HEAD_BYTES + over, "GET /", fill_in_line)
    assert len(data) == NARROW_HEAD_BYTES + over
    attack.send(client, data, byte_by_byte=byte_by_byte)
    status = client.read_response().status
    assert status == (200 if over <= 0 else 431)
    assert len(attack.forwarded(lane)) == (over <= 0)


@BOTH_WAYS
def test_t27_request_line(lane: Lane, byte_by_byte: bool) -> None:
    """The whole line fits, its head does not: 431. The line itself does not fit: 414."""
    room = NARROW_HEAD_BYTES - len("GET / HTTP/1.1\r\n")
    for size, status in ((room, 431), (room + 1, 414), (room * 3, 414)):
        client = lane.connect("narrow")
        attack.send(client, lane.head("GET /" + "p" * size), byte_by_byte=byte_by_byte)
        assert client.read_response().status == status
        client.expect_closed()
    assert attack.forwarded(lane) == []


@BOTH_WAYS
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_t27_header_count(lane: Lane, over: int, byte_by_byte: bool) -> None:
    fields = [f"X-{number}: v" for number in range(NARROW_HEADER_COUNT - 1 + over)]
    client = lane.connect("narrow")
    attack.send(client, lane.head("GET /", *fields), byte_by_byte=byte_by_byte)
    assert client.read_response().status == (200 if over <= 0 else 431)
    assert len(attack.forwarded(lane)) == (over <= 0)


def test_t27_many_equal_fields_count_too(lane: Lane) -> None:
    client = lane.connect("narrow")
    client.send(lane.head("GET /", *["X: v"] * NARROW_HEADER_COUNT))
    assert client.read_response().status == 431


@pytest.mark.parametrize("framing", ["length", "chunked", "small-chunks"])
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_t27_body_bytes(lane: Lane, over: int, framing: str) -> None:
    body = b"b" * (NARROW_BODY_BYTES + over)
    client = lane.connect("narrow")
    if framing == "length":
        data = lane.head("POST /", f"Content-Length: {len(body)}") + body
    else:
        chunks = wire.chunked(body, 3 if framing == "small-chunks" else 0)
        data = lane.head("POST /", "Transfer-Encoding: chunked") + chunks
    attack.send(client, data, byte_by_byte=False)
    assert client.read_response().status == (200 if over <= 0 else 413)
    seen = attack.forwarded(lane)
    assert [len(request.body) for request in seen] == ([len(body)] if over <= 0 else [])


def test_t27_the_default_limits_hold(lane: Lane) -> None:
    attack.refused(lane, _sized(lane, 32769, "GET /", False), (431,))
    attack.refused(lane, lane.head("GET /", *(f"X-{n}: v" for n in range(100))), (431,))
    client = lane.connect()
    client.send(_sized(lane, 32768, "GET /", False))
    assert client.read_response().status == 200
    client.send(lane.head("GET /", *(f"X-{n}: v" for n in range(99))))
    assert client.read_response().status == 200


def test_t27_an_endless_head_is_cut_off(lane: Lane) -> None:
    client = lane.connect()
    client.send(lane.head("GET /")[:-2])
    for number in range(100_000):
        if client.has_bytes() or not client.send_tolerating_close(b"X-%d: v\r\n" % number):
            break
    assert number < 90_000
    assert client.read_response().status == 431


def test_t27_an_endless_request_line_is_cut_off(lane: Lane) -> None:
    client = lane.connect()
    sent = 0
    client.send(b"GET /")
    while sent < 64 << 20 and not client.has_bytes():
        if not client.send_tolerating_close(b"p" * 4096):
            break
        sent += 4096
    assert sent < 32 << 20
    assert client.read_response().status == 414


def test_t27_endless_empty_lines_are_cut_off(lane: Lane) -> None:
    client = lane.connect()
    sent = 0
    while sent < 64 << 20 and not client.has_bytes():
        if not client.send_tolerating_close(b"\r\n" * 2048):
            break
        sent += 4096
    assert sent < 32 << 20
    data = client.read_to_close()
    assert data == b"" or data.startswith(b"HTTP/1.1 4")


JUNK = ["100-continue, x", "x", "200-ok", "100-continue=yes", '"100-continue"', "100-continu", ""]


@pytest.mark.parametrize("value", JUNK)
def test_t28_other_expectations_are_refused_or_ignored(lane: Lane, value: str) -> None:
    verdict = attack.launch(
        lane, lane.head("POST /", f"Expect: {value}", "Content-Length: 5") + b"hello"
    )
    if verdict.status == 200:
        [request] = verdict.forwarded
        assert request.body == b"hello"
        assert request.elements("expect") in ([], [b"100-continue"])
    else:
        assert verdict.status in (400, 417)
        assert verdict.forwarded == []


def test_t28_two_expectations(lane: Lane) -> None:
    fields = ["Expect: 100-continue", "Expect: 100-continue", "Content-Length: 5"]
    verdict = attack.launch(lane, lane.head("POST /", *fields) + b"hello")
    assert verdict.responses[-1].status in (200, 400, 417)
    for request in verdict.forwarded:
        assert request.body == b"hello"
        assert len(request.all("expect")) <= 1


def test_t28_an_expectation_without_a_body(lane: Lane) -> None:
    client = lane.connect()
    for _ in range(2):
        assert client.get(lane.host, "/", "Expect: 100-continue").status == 200
    assert [request.body for request in attack.forwarded(lane)] == [b"", b""]


def test_t28_a_request_in_place_of_the_expected_body_is_the_body(lane: Lane) -> None:
    """Whoever sends on without waiting sends the body: it is never read as a next request."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    head = lane.head("POST /", "Expect: 100-continue", f"Content-Length: {len(smuggled)}")
    verdict = attack.launch(lane, head + smuggled)
    assert [request.body for request in verdict.forwarded] == [smuggled]


def test_t28_an_early_final_answer_leaves_nothing_ambiguous(lane: Lane) -> None:
    """The answer came instead of 100, the client sends the body all the same: not a request."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

    def script(exchange: Exchange) -> None:
        if exchange.request.path == attack.SENTINEL:
            exchange.send(wire.response())
            return
        exchange.send(wire.response(b"no", status="417 Expectation Failed"))
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("POST /", "Expect: 100-continue", f"Content-Length: {len(smuggled)}"))
    response = client.read_any("POST")
    assert response.status == 417
    client.send_tolerating_close(smuggled)
    if response.keeps_alive:
        # Then the body is a request that the client should not have sent, and it has no frontend.
        assert client.read_response().status == 404
    else:
        client.expect_closed()
    assert "/smuggled" not in [request.path for request in attack.forwarded(lane)]
