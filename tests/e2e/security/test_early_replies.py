"""T15: answers that come before the body has been read; what is left must not be taken for more."""

from __future__ import annotations

import contextlib

import pytest

from tests.harness import attack, rawclient, wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: smuggled.test\r\n\r\n"


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_t15_the_rest_of_a_body_is_no_request(lane: Lane, framing: str, closes: bool) -> None:
    """CVE-2025-4366: the backend answers from the head alone and keeps its connection open."""

    def script(exchange: Exchange) -> None:
        if exchange.request.path == attack.SENTINEL:
            exchange.send(wire.response())
            return
        connection = [("Connection", "close")] if closes else []
        exchange.send(wire.response(b"early", fields=connection))
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    field = "Content-Length: 5000" if framing == "length" else "Transfer-Encoding: chunked"
    client.send(lane.head("POST /early", field))
    response = client.read_response("POST")
    assert response.body == b"early"
    filler = SMUGGLED * 50
    client.send_tolerating_close(filler[:5000] if framing == "length" else wire.chunked(filler))
    # Either the rest was swallowed up to its end, or the connection closed behind the response.
    client.send_tolerating_close(lane.head(f"GET {attack.SENTINEL}"))
    with contextlib.suppress(rawclient.Truncated):
        assert client.read_response().body == b"ok"
    # The rest may have gone where the head went, as a body that nobody completes, and no further.
    assert "/smuggled" not in [request.path for request in attack.forwarded(lane)]


@pytest.mark.parametrize("status", [404, 413])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_t15_the_body_behind_an_own_refusal_is_no_request(
    lane: Lane, status: int, framing: str
) -> None:
    client = lane.connect("narrow")
    host = lane.host if status == 413 else "nowhere.test"
    body = SMUGGLED * 100
    field = f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked"
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n".encode()
    client.send_tolerating_close(head + (body if framing == "length" else wire.chunked(body)))
    assert client.read_response("POST").status == status
    client.expect_closed()
    assert attack.forwarded(lane) == []


def test_t15_the_next_request_after_an_early_reply_is_the_next_request(lane: Lane) -> None:
    """A client that sends its whole body at once gets the answers to what it asked, in order."""

    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(exchange.request.target))
        exchange.read_body()

    lane.backend.script = script
    for number in range(10):
        client = lane.connect()
        client.send(lane.head(f"POST /{number}", "Content-Length: 20") + b"GET /smuggled HTTP/1")
        assert client.read_response("POST").body == b"/%d" % number
        assert client.get(lane.host, "/next").body == b"/next"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_t16_bodies_of_methods_that_seldom_have_one(lane: Lane, method: str) -> None:
    """A body is a body whatever the method: it is passed on and never read as a request."""
    client = lane.connect()
    for path in ("/1", "/2"):
        client.send(lane.head(f"{method} {path}", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED)
        assert client.read_response("HEAD" if method == "HEAD" else "GET").status == 200
        if method == "HEAD":
            break
    seen = attack.forwarded(lane)
    assert all(request.body == SMUGGLED for request in seen)
    assert "/smuggled" not in [request.path for request in seen]
