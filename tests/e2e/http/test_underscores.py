"""Fields whose names have an underscore, which CGI and its heirs cannot tell from a dash (T21)."""

from __future__ import annotations

import pytest

from tests.harness import ports, wire
from tests.harness.gateway import Gateway, Lane

OWN = [
    "X_Forwarded_For",
    "X-Forwarded_Proto",
    "X_Forwarded_Anything",
    "x_real_ip",
    "True_Client_IP",
    "Client_Cert",
    "Content_Length",
    "Transfer_Encoding",
    "X_Request_Id",
    "Early_Data",
    "Sec_WebSocket_Key",
    "Proxy_Authorization",
]


@pytest.mark.parametrize("name", ["my_header", "X_Auth_User", "_", "Content_Type", "x__y"])
@pytest.mark.parametrize("listener", ["main", "trusting"])
def test_requests_keep_what_is_nobodys_alias(lane: Lane, name: str, listener: str) -> None:
    with lane.connect(listener) as client:
        assert client.get(lane.host, "/", f"{name}: value").status == 200
    assert lane.backend.last.get(name) == b"value"


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("listener", ["main", "trusting"])
def test_requests_lose_aliases_of_our_own_fields(lane: Lane, name: str, listener: str) -> None:
    with lane.connect(listener) as client:
        assert client.get(lane.host, "/", f"{name}: spoofed").status == 200
    assert lane.backend.last.all(name) == []
    assert b"spoofed" not in dict(lane.backend.last.fields).values()


def test_trailers_of_requests_follow_the_same_rule(lane: Lane) -> None:
    body = b"1\r\na\r\n0\r\nx_sum: 1\r\nX_Forwarded_For: 1\r\n\r\n"
    client = lane.connect()
    client.send(lane.head("POST /", "Transfer-Encoding: chunked") + body)
    assert client.read_response().status == 200
    lane.backend.settle()
    [request] = lane.backend.connections[0].stream().requests
    assert request.trailers == [(b"x_sum", b"1")]


@pytest.mark.parametrize("name", ["x_count", "Content_Length", "X_Request_Id"])
def test_responses_keep_all_of_them(lane: Lane, name: str) -> None:
    data = wire.response(b"ok", fields=[(name, "9")])
    lane.backend.script = lambda exchange: exchange.send(data)
    response = lane.get()
    assert (response.body, response.get(name)) == (b"ok", b"9")


def test_trailers_of_responses_keep_them(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx_sum: 1\r\n\r\n"
    )
    assert lane.get().trailers == [(b"x_sum", b"1")]


def test_a_listener_may_want_none(gateway: Gateway, lane: Lane) -> None:
    gateway.extend(
        listeners={"dashes": {"address": ports.address(), "underscores_in_headers": False}},
        frontends={
            "dashes": {"listeners": ["dashes"], "hostname": "dashes.test", "cluster": lane.name},
            "dashes-match": {
                "listeners": ["dashes"],
                "hostname": "dashes.test",
                "headers": {"my_header": {"exact": "1"}},
                "path": {"prefix": "/"},
                "cluster": "anyhost",
            },
        },
    )
    client = gateway.connect("dashes")
    assert client.get("dashes.test", "/", "my_header: 1", "X-Mine: 2").status == 200
    assert lane.backend.last.all("my_header") == []
    assert lane.backend.last.get("x-mine") == b"2"
