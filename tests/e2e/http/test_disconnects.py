"""Clients and backends that leave in the middle, and those that close one direction only."""

from __future__ import annotations

import pytest

from tests.harness import wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_leaves_in_its_request_aborts_the_upstream(lane: Lane, way: str) -> None:
    client = lane.connect()
    client.send(lane.head("POST /", "Content-Length: 1000") + b"start")
    lane.backend.wait_for_requests(1)
    getattr(client, way)()
    lane.backend.wait_for_ended()
    assert lane.get("/next").status == 200
    assert len(lane.backend.connections) == 2


def test_a_client_that_resets_while_waiting_aborts_the_upstream(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.wait_for_end()
    client = lane.connect()
    client.send(lane.head("GET /"))
    lane.backend.wait_for_requests(1)
    client.reset()
    lane.backend.wait_for_ended()


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_leaves_in_the_response_aborts_the_upstream(lane: Lane, way: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            exchange.send(b"x" * 65536)

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    assert client.read_head().status == 200
    getattr(client, way)()
    lane.backend.wait_for_ended()
    assert lane.backend.connections[0].sent < 100_000_000


def test_a_client_that_leaves_while_the_response_pauses_is_noticed(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart")
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    assert client.read_head().status == 200
    client.reset()
    lane.backend.wait_for_ended()


def test_a_client_that_has_finished_sending_gets_its_response(lane: Lane) -> None:
    lane.backend.script = lambda exchange: (
        exchange.wait_for_go(),
        exchange.send(wire.response(b"late")),
    )
    client = lane.connect()
    client.send(lane.head("GET /"))
    client.half_close()
    lane.backend.wait_for_requests(1)
    lane.backend.go.set()
    assert client.read_response().body == b"late"
    client.expect_closed()


def test_a_client_that_has_finished_sending_gets_all_pipelined_responses(lane: Lane) -> None:
    client = lane.connect()
    client.send(lane.head("GET /1") + lane.head("GET /2") + lane.head("GET /3"))
    client.half_close()
    assert [client.read_response().body for _ in range(3)] == [b"ok"] * 3
    client.expect_closed()


def test_a_client_that_closes_in_a_head_gets_nothing_upstream(lane: Lane) -> None:
    client = lane.connect()
    client.send(lane.head("GET /")[:-1])
    client.half_close()
    data = client.read_to_close()
    assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
    assert lane.backend.connections == []


def test_a_backend_that_half_closes_after_its_response_is_no_error(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(wire.response())
        exchange.half_close()

    lane.backend.script = script
    client = lane.connect()
    for _ in range(5):
        assert client.get(lane.host).body == b"ok"
    assert len(lane.backend.connections) == 5


def test_a_backend_that_answers_and_resets_at_once(lane: Lane) -> None:
    """What was received before the reset is a whole response."""

    def script(exchange: Exchange) -> None:
        exchange.send(wire.response())
        exchange.wait_until_delivered()
        exchange.reset()

    lane.backend.script = script
    client = lane.connect()
    for _ in range(10):
        assert client.get(lane.host).body == b"ok"


def test_a_response_that_ends_before_the_request_does(lane: Lane) -> None:
    """The backend answers early and closes: the client gets the answer, the rest goes nowhere."""

    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(b"enough", status="403 Forbidden", framing="close"))
        exchange.half_close()
        exchange.wait_for_end()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("POST /", "Content-Length: 1000000") + b"x" * 1000)
    response = client.read_response()
    assert (response.status, response.body) == (403, b"enough")
    client.send_tolerating_close(b"x" * 999_000)
    lane.backend.script = lane.backend.default
    assert lane.get("/next").status == 200
    assert lane.backend.last.path == "/next"


def test_a_response_that_is_whole_before_the_request_keeps_or_announces(lane: Lane) -> None:
    """Nobody may be left to find out by a lost request that the connection was to end."""

    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(b"early"))
        exchange.read_body()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("POST /", "Content-Length: 5000"))
    response = client.read_response("POST")
    assert response.body == b"early"
    if response.keeps_alive:
        client.send(b"x" * 5000)
        assert client.get(lane.host).status == 200
    else:
        client.expect_closed()


def test_connections_that_send_nothing_cost_the_others_nothing(lane: Lane) -> None:
    silent = [lane.connect() for _ in range(100)]
    assert lane.get().status == 200
    for client in silent:
        client.close()
    assert lane.get().status == 200
