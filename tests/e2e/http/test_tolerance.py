"""What peers do that is odd and clear, and what each is told when it is not clear."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import websocket, wire
from tests.harness.gateway import Gateway, Lane
from tests.harness.rawbackend import Exchange, RawBackend

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _answers(lane: Lane, data: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.wait_for_end()

    lane.backend.script = script


# From backends.


@pytest.mark.parametrize("size", [b"5 ", b"5\t", b"5       ", b"5 ;a=b", b"5;a ", b"05"])
def test_blanks_behind_a_chunk_size_are_read_over(lane: Lane, size: bytes) -> None:
    _answers(lane, CHUNKED + size + b"\r\nhello\r\n0  \r\n\r\n")
    assert lane.get().body == b"hello"


BROKEN = {
    "size": b"5x\r\nhello\r\n0\r\n\r\n",
    "sign": b"-5\r\nhello\r\n",
    "blanks": b"5 5\r\nhello\r\n",
    "extension": b"5;=b\r\nhello\r\n",
    "after the data": b"5\r\nhelloXX0\r\n\r\n",
    "second": b"5\r\nhello\r\nx\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nbad name: x\r\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_bad_chunk_in_the_packet_of_the_head_is_a_502(lane: Lane, body: bytes) -> None:
    _answers(lane, CHUNKED + body)
    client = lane.connect()
    response = client.get(lane.host, "/broken")
    assert response.status == 502
    assert b"hello" not in response.body
    lane.backend.script = lane.backend.default
    assert client.get(lane.host).body == b"ok"
    entries = lane.gateway.daemon.wait_for_access(
        lambda entry: entry["path"] == "/broken" and entry["frontend"] == lane.name
    )
    assert entries[-1]["outcome"] == "response_malformed"
    assert "chunk" in entries[-1]["reason"] or "trailer" in entries[-1]["reason"]


def test_the_limits_of_a_response_head_are_a_setting(gateway: Gateway, lane: Lane) -> None:
    fields = [(f"X-{number}", "v" * 100) for number in range(40)]
    lane.backend.script = lambda exchange: exchange.send(wire.response(b"ok", fields=fields))
    hosts = {
        limits: gateway.cluster(f"limits-{name}", {"a": lane.backend.address}, limits=dict(limits))
        for name, limits in (
            ("wide", (("head_bytes", "128KiB"), ("header_count", 1000))),
            ("few", (("header_count", 40),)),
            ("short", (("head_bytes", "4KiB"),)),
        )
    }
    found = [gateway.connect().get(host).status for host in hosts.values()]
    assert found == [200, 502, 502]
    reasons = {
        str(entry["reason"])
        for entry in gateway.daemon.wait_for_access(
            lambda entry: str(entry["cluster"]).startswith("limits-") and entry["status"] == 502, 2
        )
    }
    assert reasons == {"too_many_fields", "head_too_large"}


# From clients.


@pytest.mark.parametrize("minor", range(2, 10))
def test_a_later_minor_version_is_served_as_ours(lane: Lane, minor: int) -> None:
    client = lane.connect()
    for _ in range(2):
        client.send(f"GET /a?b HTTP/1.{minor}\r\nHost: {lane.host}\r\n\r\n".encode())
        assert client.read_response().status == 200
    lane.backend.settle()
    [connection] = lane.backend.connections
    assert connection.received.startswith(b"GET /a?b HTTP/1.1\r\n")


@pytest.mark.parametrize("version", ["2.0", "3.0", "0.9"])
def test_another_major_version_is_505(lane: Lane, version: str) -> None:
    client = lane.connect()
    client.send(f"GET / HTTP/{version}\r\nHost: {lane.host}\r\n\r\n".encode())
    assert client.read_response().status == 505


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        ("gzip", 400),
        ("identity", 400),
        ("chunked, gzip", 400),
        ("gzip, chunked", 501),
        ("chunked, chunked", 400),
    ],
)
def test_a_body_without_an_end_is_a_bad_request(lane: Lane, coding: str, status: int) -> None:
    client = lane.connect()
    client.send(lane.head("POST /", f"Transfer-Encoding: {coding}"))
    assert client.read_response().status == status
    assert lane.backend.connections == []


@pytest.mark.parametrize("extension", ["", "=x", " ; ;", "a=", "a b", 'a="b', "a=b;"])
def test_chunk_extensions_have_one_grammar(lane: Lane, extension: str) -> None:
    client = lane.connect()
    body = f"5;{extension}\r\nhello\r\n0\r\n\r\n".encode()
    client.send(lane.head("POST /", "Transfer-Encoding: chunked") + body)
    assert client.read_response().status == 400


def test_blanks_before_an_extension_are_part_of_its_grammar(lane: Lane) -> None:
    """RFC 9112 §7.1.1; blanks without one are refused."""
    client = lane.connect()
    framed = lane.head("POST /", "Transfer-Encoding: chunked")
    client.send(framed + b"5 \t;a ; b=c\r\nhello\r\n0 ;d\r\n\r\n")
    assert client.read_response().status == 200
    assert lane.backend.last.body == b"hello"
    client.send(framed + b"5 \r\nhello\r\n0\r\n\r\n")
    assert client.read_response().status == 400


@pytest.mark.parametrize("extension", ["a", "a=b", " a = b", 'a="b;\\" c"', "a;b;c=d"])
def test_chunk_extensions_of_that_grammar_are_dropped(lane: Lane, extension: str) -> None:
    client = lane.connect()
    body = f"5;{extension}\r\nhello\r\n0\r\n\r\n".encode()
    client.send(lane.head("POST /", "Transfer-Encoding: chunked") + body)
    assert client.read_response().status == 200
    assert lane.backend.last.body == b"hello"


@pytest.mark.parametrize("length", [65, 5000, 100_000])
def test_a_method_that_is_too_long_is_told_as_that(
    gateway: Gateway, lane: Lane, length: int
) -> None:
    def is_one(entry: dict[str, Any]) -> bool:
        return bool(entry["outcome"] == "method_too_long")

    before = sum(map(is_one, gateway.daemon.access_entries()))
    client = lane.connect()
    client.send_tolerating_close(lane.head("M" * length + " /"))
    assert client.read_response().status == 501
    assert len(gateway.daemon.wait_for_access(is_one, before + 1)) == before + 1


def test_a_websocket_version_that_is_not_carried_is_told_which_one_is(lane: Lane) -> None:
    client = lane.connect()
    client.send(websocket.handshake(lane.host).replace(b"Version: 13", b"Version: 12"))
    response = client.read_response()
    assert response.status == 426
    assert response.get("sec-websocket-version") == b"13"
    assert response.elements("upgrade") == [b"websocket"]
    assert lane.backend.connections == []
    # And the connection goes on.
    assert client.get(lane.host).status == 200


def test_where_websocket_is_not_passed_on_its_version_does_not_matter(
    gateway: Gateway, lane: Lane
) -> None:
    gateway.extend(
        frontends={
            "no-upgrades": {
                "listeners": ["main"],
                "hostname": "no-upgrades.test",
                "cluster": lane.name,
                "upgrades": [],
            }
        }
    )
    client = gateway.connect()
    client.send(websocket.handshake("no-upgrades.test").replace(b"Version: 13", b"Version: 12"))
    assert client.read_response().status == 200
    assert lane.backend.last.all("upgrade") == []


@pytest.mark.parametrize("status", [404, 503, 413])
def test_a_call_of_grpc_is_answered_in_its_words(gateway: Gateway, lane: Lane, status: int) -> None:
    listener, host, body = "main", lane.host, b""
    if status == 404:
        host = "nowhere.test"
    elif status == 503:
        host = gateway.cluster(f"grpc-empty-{status}", {})
    else:
        listener, body = "narrow", b"x" * 5000
    client = gateway.connect(listener)
    response = client.post(
        host, body, "/a.B/C", "Content-Type: application/grpc+proto", "TE: trailers"
    )
    assert response.status == status
    expected = {404: b"12", 503: b"14", 413: b"8"}[status]
    assert response.get("grpc-status") == expected
    assert response.get("grpc-message")
    assert (response.get("content-type"), response.body) == (b"application/grpc", b"")


def test_other_requests_are_told_nothing_of_grpc(gateway: Gateway) -> None:
    response = gateway.connect().get("nowhere.test", "/", "Content-Type: application/grpc-web")
    assert response.all("grpc-status") == []
    assert b"404" in response.body


def test_a_backend_that_fails_a_call_of_grpc(gateway: Gateway) -> None:
    with RawBackend(lambda exchange: exchange.close()) as backend:
        host = gateway.cluster("grpc-closing", {"a": backend.address})
        fields = ("Content-Type: application/grpc",)
        response = gateway.connect().post(host, b"x", "/a.B/C", *fields)
    assert (response.status, response.get("grpc-status")) == (502, b"14")


@pytest.mark.parametrize(
    ("method", "lengths"),
    [("POST", [b"0"]), ("PUT", [b"0"]), ("PATCH", [b"0"]), ("GET", []), ("DELETE", [])],
)
def test_a_method_with_content_says_that_there_is_none(
    lane: Lane, method: str, lengths: list[bytes]
) -> None:
    assert lane.get(method=method).status == 200
    assert lane.backend.last.all("content-length") == lengths
