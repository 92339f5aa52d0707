"""Connections that live on: towards the client, towards the backend, and across clients."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import wire
from tests.harness.daemon import stopped
from tests.harness.gateway import HURRIED_MS, Gateway, Lane
from tests.harness.rawbackend import Exchange
from tests.harness.timing import lasts


def test_a_client_connection_takes_many_requests(lane: Lane) -> None:
    client = lane.connect()
    for number in range(20):
        response = client.get(lane.host, f"/{number}")
        assert (response.status, response.body) == (200, b"ok")
        assert response.keeps_alive
    assert [request.path for request in lane.backend.requests] == [f"/{n}" for n in range(20)]


def test_connection_close_from_the_client_ends_it_after_the_response(lane: Lane) -> None:
    client = lane.connect()
    response = client.get(lane.host, "/", "Connection: close")
    assert response.body == b"ok"
    assert response.elements("connection") == [b"close"]
    client.expect_closed()


def test_connection_close_from_the_client_is_not_passed_on(lane: Lane) -> None:
    with lane.connect() as client:
        client.get(lane.host, "/1", "Connection: close")
    with lane.connect() as client:
        client.get(lane.host, "/2", "Connection: close")
    assert b"close" not in lane.backend.last.elements("connection")
    assert len(lane.backend.connections) == 1


def test_connection_close_from_the_backend_leaves_the_client_connection_alone(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(fields=[("Connection", "close")]))
        exchange.close()

    lane.backend.script = script
    client = lane.connect()
    for _ in range(3):
        response = client.get(lane.host)
        assert response.body == b"ok"
        assert response.keeps_alive
    assert len(lane.backend.connections) == 3


def test_http_1_0_responses_of_a_backend_end_its_connection(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.send(
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    client = lane.connect()
    assert client.get(lane.host).body == b"ok"
    assert client.get(lane.host).body == b"ok"
    assert len(lane.backend.connections) == 2


def test_upstream_connections_are_reused_across_clients(lane: Lane) -> None:
    for number in range(25):
        with lane.connect() as client:
            assert client.get(lane.host, f"/{number}").body == b"ok"
    assert len(lane.backend.requests) == 25
    assert len(lane.backend.connections) == 1


def test_upstream_connections_grow_to_the_requests_in_flight_and_are_kept(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.wait_for_go()
        exchange.send(wire.response())

    lane.backend.script = script
    clients = [lane.connect() for _ in range(6)]
    for client in clients:
        client.send(lane.head("GET /"))
    lane.backend.wait_for_requests(6)
    assert len(lane.backend.connections) == 6
    lane.backend.go.set()
    assert [client.read_response().body for client in clients] == [b"ok"] * 6
    for client in clients * 3:
        client.get(lane.host)
    assert len(lane.backend.connections) == 6


def test_idle_upstream_connections_are_bounded(gateway: Gateway, lane: Lane) -> None:
    host = gateway.cluster("few-idle", {"raw": lane.backend.address}, keep_alive_connections=2)
    together = threading.Barrier(5)

    def script(exchange: Exchange) -> None:
        if exchange.request.path == "/together":
            together.wait(10)
        exchange.send(wire.response())

    lane.backend.script = script
    clients = [lane.connect() for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda client: client.get(host, "/together"), clients))
    lane.backend.wait_for_ended(3)
    for _ in range(4):
        clients[0].get(host)
    assert len(lane.backend.connections) == 5


@pytest.mark.timed
def test_idle_upstream_connections_time_out(gateway: Gateway, lane: Lane) -> None:
    host = gateway.cluster(
        "short-idle", {"raw": lane.backend.address}, timeouts={"keep_alive": "500ms"}
    )
    client = lane.connect()

    def attempt() -> None:
        before = sum(connection.ended for connection in lane.backend.connections)
        client.get(host)
        lane.backend.wait_for_ended(before + 1)

    lasts(0.5, attempt)
    assert client.get(host).body == b"ok"


def test_an_upstream_connection_that_the_backend_closed_while_idle_is_not_used(lane: Lane) -> None:
    client = lane.connect()
    for _ in range(20):
        assert client.get(lane.host).status == 200
        connection = lane.backend.connections[-1]
        connection.half_close()
        lane.backend.wait_until(lambda c=connection: c.ended, "the proxy let go of it")
    assert len(lane.backend.connections) == 20


def _die_on_second_request(exchange: Exchange) -> None:
    exchange.read_body()
    if exchange.ordinal > 1:
        exchange.close()
    else:
        exchange.send(wire.response())


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_reused_connection_that_dies_under_a_safe_request_is_replaced(
    lane: Lane, method: str
) -> None:
    lane.backend.script = _die_on_second_request
    if method == "HEAD":
        lane.backend.script = lambda exchange: (
            exchange.close()
            if exchange.ordinal > 1
            else exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        )
    client = lane.connect()
    for _ in range(5):
        assert client.get(lane.host, method=method).status == 200
    # Every request but the first was sent twice: once into the connection that died.
    assert len(lane.backend.connections) == 5


@pytest.mark.parametrize("body", [b"", b"2"], ids=["empty", "body"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "M-SEARCH"])
def test_a_reused_connection_that_dies_under_a_post_is_not_replayed(
    lane: Lane, method: str, body: bytes
) -> None:
    """It is not idempotent, and the backend may have acted on it before it died."""
    lane.backend.script = _die_on_second_request
    client = lane.connect()
    assert client.get(lane.host).status == 200
    client.send(lane.head(f"{method} /once", f"Content-Length: {len(body)}") + body)
    assert client.read_response(method).status == 502
    assert [request.path for request in lane.backend.requests].count("/once") == 1


@pytest.mark.parametrize("first", ["request", "end"])
def test_a_post_is_not_sent_into_a_connection_that_has_ended(lane: Lane, first: str) -> None:
    """The request and the end of the idle connection arrive in the same turn of the worker."""
    client = lane.connect()
    for _ in range(5):
        assert client.post(lane.host, b"before").status == 200
        with stopped(lane.gateway.worker_pid()):
            if first == "end":
                lane.backend.connections[-1].close()
            client.send(lane.head("POST /", "Content-Length: 5") + b"after")
            if first == "request":
                lane.backend.connections[-1].close()
        assert client.read_response("POST").status == 200
    assert [r.body for r in lane.backend.requests].count(b"after") == 5


def test_a_fresh_connection_that_dies_is_a_502_and_is_not_tried_again(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.close()
    response = lane.get()
    assert response.status == 502
    assert len(lane.backend.requests) == 1


@pytest.mark.timed
def test_an_idle_client_connection_is_closed_without_a_word(lane: Lane) -> None:
    def attempt() -> None:
        client = lane.connect("hurried")
        client.get(lane.host)
        client.expect_closed()

    lasts(HURRIED_MS / 1000, attempt)


@pytest.mark.timed
def test_requests_in_time_keep_an_idle_connection_alive(lane: Lane) -> None:
    client = lane.connect("hurried")
    started = time.monotonic()
    while time.monotonic() - started < HURRIED_MS / 1000 * 2.5:
        assert client.get(lane.host).status == 200
        time.sleep(HURRIED_MS / 1000 / 5)  # the time that passes is what is tested


def test_the_listener_of_ipv6_serves(lane: Lane) -> None:
    client = lane.connect("ipv6")
    assert client.get(lane.host).body == b"ok"
    assert lane.backend.last.get("x-forwarded-for") == b"::1"


@pytest.mark.parametrize(
    "stray", [wire.response(b"stray", status="408 Request Timeout"), b""], ids=["408", "end"]
)
def test_what_an_idle_backend_connection_brings_is_nobodys_answer(
    gateway: Gateway, lane: Lane, stray: bytes
) -> None:
    """The request is there before what the backend says, so that it finds the connection pooled."""
    client = lane.connect()
    assert client.get(lane.host).status == 200
    pooled = lane.backend.connections[0]
    time.sleep(0.2)
    with stopped(gateway.worker_pid()):
        client.send(lane.head("GET /asked"))
        time.sleep(0.1)
        pooled.send(stray)
        pooled.close()
        time.sleep(0.1)
    response = client.read_response()
    assert (response.status, response.body) == (200, b"ok")
    assert [request.path for request in lane.backend.requests] == ["/", "/asked"]
