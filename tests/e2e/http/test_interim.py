"""Interim responses (1xx) and Expect: 100-continue."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness import wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


def test_early_hints_are_passed_on_before_the_response(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(EARLY_HINTS)
        exchange.wait_for_go()
        exchange.send(wire.response())

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    hints = client.read_any()
    assert (hints.status, hints.get("link")) == (103, b"</a.css>; rel=preload")
    lane.backend.go.set()
    assert client.read_any().body == b"ok"
    assert client.get(lane.host).status == 200


def test_several_interim_responses_in_one_segment(lane: Lane) -> None:
    processing = b"HTTP/1.1 102 Processing\r\n\r\n"
    lane.backend.script = lambda exchange: exchange.send(
        processing + EARLY_HINTS + EARLY_HINTS + wire.response()
    )
    client = lane.connect()
    for _ in range(2):
        client.interim.clear()
        assert client.get(lane.host).body == b"ok"
        assert [response.status for response in client.interim] == [102, 103, 103]


def test_interim_responses_byte_by_byte(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.send_pieces(EARLY_HINTS + wire.response())
    client = lane.connect()
    assert client.get(lane.host).body == b"ok"
    assert [response.status for response in client.interim] == [103]


def test_http_1_0_clients_get_no_interim_response(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.send(EARLY_HINTS + wire.response())
    client = lane.connect()
    client.send(f"GET / HTTP/1.0\r\nHost: {lane.host}\r\n\r\n".encode())
    assert client.read_any().status == 200
    client.expect_closed()


def _continue_then_answer(exchange: Exchange) -> None:
    exchange.send(CONTINUE)
    body = exchange.read_body()
    exchange.send(wire.response(b"got %d" % len(body)))


def test_expect_continue_waits_for_the_backend(lane: Lane) -> None:
    lane.backend.script = _continue_then_answer
    client = lane.connect()
    for _ in range(3):
        client.send(lane.head("POST /", "Content-Length: 5", "Expect: 100-continue"))
        assert client.read_any("POST").status == 100
        client.send(b"hello")
        assert client.read_any("POST").body == b"got 5"
    assert len(lane.backend.connections) == 1


def test_expect_continue_with_a_chunked_body(lane: Lane) -> None:
    lane.backend.script = _continue_then_answer
    client = lane.connect()
    client.send(lane.head("POST /", "Transfer-Encoding: chunked", "Expect: 100-continue"))
    assert client.read_any("POST").status == 100
    client.send(wire.chunked(b"hello world", 4))
    assert client.read_any("POST").body == b"got 11"


def test_expect_continue_with_the_body_sent_at_once(lane: Lane) -> None:
    lane.backend.script = _continue_then_answer
    client = lane.connect()
    for _ in range(2):
        client.send(lane.head("POST /", "Content-Length: 5", "Expect: 100-continue") + b"hello")
        assert client.read_response("POST").body == b"got 5"
    for connection in lane.backend.connections:
        assert all(request.body == b"hello" for request in connection.stream().requests)


def test_a_client_that_stops_waiting_for_continue_is_served(lane: Lane) -> None:
    client = lane.connect()
    client.send(lane.head("POST /", "Content-Length: 5", "Expect: 100-continue"))
    lane.backend.wait_for_requests(1)
    client.send(b"hello")
    assert client.read_response("POST").body == b"ok"
    assert lane.backend.last.body == b"hello"


def test_two_continues_of_a_backend_do_not_confuse(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(CONTINUE + CONTINUE)
        exchange.read_body()
        exchange.send(wire.response())

    lane.backend.script = script
    client = lane.connect()
    for _ in range(2):
        client.send(lane.head("POST /", "Content-Length: 5", "Expect: 100-continue"))
        assert client.read_any("POST").status == 100
        client.send(b"hello")
        assert client.read_response("POST").body == b"ok"


def test_a_continue_that_nobody_asked_for_does_not_confuse(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.send(CONTINUE + wire.response())
    client = lane.connect()
    for _ in range(2):
        assert client.get(lane.host).body == b"ok"


@pytest.mark.parametrize("status", ["417 Expectation Failed", "413 Content Too Large", "200 OK"])
def test_a_final_response_instead_of_continue(lane: Lane, status: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(b"no need", status=status))
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("POST /", "Content-Length: 5", "Expect: 100-continue"))
    response = client.read_any("POST")
    assert (response.status, response.body) == (int(status[:3]), b"no need")
    # The body was never sent. What comes next is either nothing, or a request of its own.
    if response.keeps_alive:
        lane.backend.script = lane.backend.default
        client.send(b"hello" + lane.head("GET /next"))
        assert client.read_response().status == 200
    else:
        client.expect_closed()
    assert [request.path for request in lane.backend.requests][1:] in ([], ["/next"])


def test_http_1_0_expectations_are_ignored(lane: Lane) -> None:
    client = lane.connect()
    head = f"POST / HTTP/1.0\r\nHost: {lane.host}\r\nContent-Length: 5\r\n"
    client.send(head.encode() + b"Expect: 100-continue\r\n\r\nhello")
    assert client.read_any("POST").body == b"ok"
    assert lane.backend.last.all("expect") == []


def test_curl_uploads_with_expect_continue(lane: Lane, tmp_path: Path) -> None:
    lane.backend.script = _continue_then_answer
    upload = tmp_path / "upload"
    upload.write_bytes(b"x" * 2_000_000)
    address = lane.gateway.addresses["main"]
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--dump-header", "-"]
    command += ["--header", f"Host: {lane.host}", "--header", "Expect: 100-continue"]
    # curl gives up waiting after a second by itself: so long a wait would show in its timing.
    command += ["--expect100-timeout", "15", "--upload-file", str(upload)]
    done = subprocess.run(
        [*command, "--write-out", "%{time_total}", f"http://{address}/put"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HTTP/1.1 100 Continue")
    assert "got 2000000" in done.stdout
    assert float(done.stdout.rpartition("got 2000000")[2]) < 10
