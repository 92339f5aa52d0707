"""Forms of the request target, and values that must arrive as they were sent."""

from __future__ import annotations

import pytest

from tests.harness import wire
from tests.harness.gateway import Lane


def test_options_asterisk_is_passed_on(lane: Lane) -> None:
    client = lane.connect()
    for _ in range(2):
        assert client.get(lane.host, "*", method="OPTIONS").status == 200
    [first, _] = lane.backend.connections[0].stream().requests
    assert (first.method, first.target) == (b"OPTIONS", b"*")
    assert first.get("host") == lane.host.encode()


@pytest.mark.parametrize("target", ["/", "/a/b?c=d&e=%20f", "/a;b=c/d", "/?q=/../x", "/a?"])
def test_the_origin_form_arrives_as_it_was_sent(lane: Lane, target: str) -> None:
    assert lane.get(target).status == 200
    assert lane.backend.last.path == target


def test_the_absolute_form_becomes_the_origin_form(lane: Lane) -> None:
    client = lane.connect()
    assert client.get(lane.host, f"http://{lane.host}/a/b?c=d").status == 200
    [request] = lane.backend.connections[0].stream().requests
    assert request.target == b"/a/b?c=d"
    assert request.get("host") == lane.host.encode()


def test_the_absolute_form_without_a_path(lane: Lane) -> None:
    assert lane.get(f"http://{lane.host}").status == 200
    assert lane.backend.last.target == b"/"


def test_the_absolute_form_with_only_a_query(lane: Lane) -> None:
    assert lane.get(f"http://{lane.host}?a=b").status == 200
    assert lane.backend.last.target == b"/?a=b"


def test_the_absolute_form_with_a_port(lane: Lane) -> None:
    port = lane.gateway.addresses["main"].rpartition(":")[2]
    authority = f"{lane.host}:{port}"
    with lane.connect() as client:
        assert client.get(authority, f"http://{authority}/x").status == 200
    assert lane.backend.last.target == b"/x"
    assert lane.backend.last.get("host") == authority.encode()


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "PROPFIND", "M-SEARCH", "X"])
def test_methods_are_passed_on(lane: Lane, method: str) -> None:
    client = lane.connect()
    assert client.get(lane.host, method=method).status == 200
    assert lane.backend.last.method == method.encode()


def test_methods_in_small_letters_are_refused(lane: Lane) -> None:
    """No registered method has one, and a backend that ignores case would take it for another."""
    client = lane.connect()
    assert client.get(lane.host, method="get").status == 400
    client.expect_closed()
    assert lane.backend.connections == []


def test_values_with_bytes_beyond_ascii_arrive_intact(lane: Lane) -> None:
    value = bytes(range(0x80, 0x100)).decode("latin-1")
    lane.backend.script = lambda exchange: exchange.send(
        wire.response(fields=[("X-Binary", value)])
    )
    response = lane.get("/", f"X-Binary: {value}")
    assert lane.backend.last.get("x-binary") == value.encode("latin-1")
    assert response.get("x-binary") == value.encode("latin-1")


@pytest.mark.parametrize(
    "value", ["", "a", "a b", "a\tb", '"quoted, \\"text\\""', "a,b, c", "x" * 8000, "=?/:;@"]
)
def test_values_arrive_intact(lane: Lane, value: str) -> None:
    lane.backend.script = lambda exchange: exchange.send(wire.response(fields=[("X-Value", value)]))
    response = lane.get("/", f"X-Value: \t {value} \t")
    assert lane.backend.last.get("x-value") == value.encode()
    assert response.get("x-value") == value.encode()


def test_repeated_fields_keep_their_order(lane: Lane) -> None:
    cookies = [("Set-Cookie", f"c{number}={number}; Path=/") for number in range(5)]
    lane.backend.script = lambda exchange: exchange.send(wire.response(fields=cookies))
    response = lane.get("/", "X-Many: 1", "Cookie: a=b", "X-Many: 2", "X-Many: 3")
    assert b",".join(lane.backend.last.all("x-many")).replace(b" ", b"") == b"1,2,3"
    assert lane.backend.last.get("cookie") == b"a=b"
    assert response.all("set-cookie") == [value.encode() for _, value in cookies]


def test_a_large_head_both_ways(lane: Lane) -> None:
    fields = [(f"X-Large-{number}", "v" * 1000) for number in range(25)]
    lane.backend.script = lambda exchange: exchange.send(wire.response(fields=fields))
    client = lane.connect()
    for _ in range(2):
        response = client.get(lane.host, "/", *(f"{name}: {value}" for name, value in fields))
        assert response.status == 200
        for name, value in fields:
            assert lane.backend.last.get(name) == value.encode()
            assert response.get(name) == value.encode()


@pytest.mark.parametrize("name", ["!#$%&'*+-.^`|~", "X", "x-" + "n" * 300])
def test_unusual_names_are_passed_on(lane: Lane, name: str) -> None:
    assert lane.get("/", f"{name}: value").status == 200
    assert lane.backend.last.get(name) == b"value"


@pytest.mark.parametrize("status", ["200", "200 ", "299 Odd", "418 I'm a teapot", "500 \xe9t\xe9"])
def test_statuses_and_reasons_of_backends(lane: Lane, status: str) -> None:
    data = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    lane.backend.script = lambda exchange: exchange.send(data)
    assert lane.get().status == int(status[:3])


def test_an_empty_line_before_the_request_line_is_skipped(lane: Lane) -> None:
    client = lane.connect()
    for _ in range(2):
        client.send(b"\r\n" + lane.head("GET /"))
        assert client.read_response().body == b"ok"
