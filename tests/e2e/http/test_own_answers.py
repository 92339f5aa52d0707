"""The proxy's own answers belong to the generation that serves the request, like any other."""

from __future__ import annotations

from tests.harness import wire
from tests.harness.gateway import Gateway, Lane
from tests.harness.rawbackend import Exchange


def test_a_timeout_is_told_by_the_generation_that_took_the_request(
    gateway: Gateway, lane: Lane
) -> None:
    lane.backend.script = lambda exchange: exchange.wait_for_go()
    host = gateway.cluster(
        "own-answer", {"a": lane.backend.address}, timeouts={"response_head": "1s"}
    )
    client = gateway.connect()
    client.send(f"GET /late HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    lane.backend.wait_for_requests(1)
    gateway.cluster("own-answer-later", {"a": lane.backend.address})
    response = client.read_response()
    assert response.status == 504
    told = response.get("kakehi-generation")
    (entry,) = gateway.daemon.wait_for_access(lambda e: e["path"] == "/late", 1)
    assert told == str(entry["generation"]).encode()
    lane.backend.go.set()


def test_without_retries_nothing_is_sent_twice(gateway: Gateway, lane: Lane) -> None:
    """Not even a safe request into a connection that dies while it waits for the answer."""

    def dies_on_second(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.ordinal > 1:
            exchange.close()
        else:
            exchange.send(wire.response())

    lane.backend.script = dies_on_second
    host = gateway.cluster("never-twice", {"a": lane.backend.address}, retries=0)
    client = gateway.connect()
    assert client.get(host).status == 200
    for method in ("GET", "DELETE", "PUT"):
        path = f"/once-{method}"
        assert client.get(host, path, method=method).status == 502
        assert [request.path for request in lane.backend.requests].count(path) == 1
        assert client.get(host).status == 200
