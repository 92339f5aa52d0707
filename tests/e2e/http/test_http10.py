"""HTTP/1.0 clients, with and without keep-alive."""

from __future__ import annotations

import pytest

from tests.harness import wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange, answer


def _head(lane: Lane, *fields: str, start: str = "GET /") -> bytes:
    return "\r\n".join([f"{start} HTTP/1.0", f"Host: {lane.host}", *fields, "", ""]).encode()


def test_the_connection_closes_after_the_response(lane: Lane) -> None:
    client = lane.connect()
    client.send(_head(lane))
    response = client.read_response()
    assert response.body == b"ok"
    assert not response.keeps_alive
    client.expect_closed()


def test_keep_alive_when_it_is_asked_for(lane: Lane) -> None:
    client = lane.connect()
    for _ in range(3):
        client.send(_head(lane, "Connection: keep-alive"))
        response = client.read_response()
        assert response.body == b"ok"
        assert response.elements("connection") == [b"keep-alive"]
    client.send(_head(lane))
    assert client.read_response().body == b"ok"
    client.expect_closed()


def test_the_backend_is_asked_in_http_1_1(lane: Lane) -> None:
    client = lane.connect()
    client.send(_head(lane))
    client.read_response()
    request = lane.backend.last
    assert request.version == b"HTTP/1.1"
    assert request.get("host") == lane.host.encode()
    [via] = request.elements("via")
    assert via.startswith(b"1.0 ")


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_bodies_of_unknown_length_end_with_the_connection(
    lane: Lane, framing: str, keep_alive: bool
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(b"some body", framing=framing))
        if framing == "close":
            exchange.close()

    lane.backend.script = script
    client = lane.connect()
    client.send(_head(lane, *(["Connection: keep-alive"] if keep_alive else [])))
    response = client.read_response()
    assert response.framing == "close"
    assert response.body == b"some body"
    assert response.all("transfer-encoding") == []
    assert not response.keeps_alive


def test_post_with_a_length(lane: Lane) -> None:
    client = lane.connect()
    client.send(_head(lane, "Content-Length: 5", start="POST /") + b"hello")
    assert client.read_response("POST").body == b"ok"
    assert lane.backend.last.body == b"hello"


def test_without_a_host(anyhost: Lane) -> None:
    client = anyhost.connect()
    client.send(b"GET /bare HTTP/1.0\r\n\r\n")
    assert client.read_response().body == b"ok"
    client.expect_closed()
    [request] = anyhost.backend.connections[-1].stream().requests[-1:]
    assert request.target == b"/bare"


def test_head_with_keep_alive(lane: Lane) -> None:
    lane.backend.script = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    client = lane.connect()
    for _ in range(2):
        client.send(_head(lane, "Connection: keep-alive", start="HEAD /"))
        assert client.read_response("HEAD").get("content-length") == b"7"
