"""Requests that are sent again after something of them had gone out, as their cluster asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import wire
from tests.harness.fixtures import Nowhere
from tests.harness.gateway import Gateway
from tests.harness.rawbackend import Exchange, RawBackend, answer

Backends = Callable[..., RawBackend]

BUSY = wire.response(b"busy", status="503 Service Unavailable")


def _resets(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reset()


def _is_silent(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.wait_for_go()


def _cluster(gateway: Gateway, name: str, used: list[RawBackend], **settings: Any) -> str:
    members = {f"b{number}": backend.address for number, backend in enumerate(used)}
    return gateway.cluster(name, members, **settings)


def _retry(*errors: str, statuses: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
    return {"when": {"errors": list(errors), "statuses": list(statuses)}, **more}


FAULTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "reset": (_resets, _retry("reset")),
    "status": (answer(BUSY), _retry(statuses=(503,))),
    "late": (_is_silent, _retry("timeout", per_try="200ms")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_be_repeated_goes_to_another_backend(
    gateway: Gateway, backends: Backends, fault: str
) -> None:
    script, retry = FAULTS[fault]
    bad, good = backends(script), backends(answer(wire.response(b"good")))
    host = _cluster(gateway, f"again-{fault}", [bad, good], retry=retry)
    for method in ("GET", "DELETE"):
        for _ in range(4):
            assert gateway.connect().get(host, method=method).body == b"good"
    assert len(good.requests) == 8
    assert len(bad.requests) >= 2
    entries = gateway.daemon.wait_for_access(lambda entry: entry["host"] == host, 8)
    again = [entry for entry in entries if entry["retries"]]
    assert len(again) == len(bad.requests)
    for entry in again:
        assert (entry["retries"], entry["tried"]) == (1, [f"again-{fault}/b0"])
        assert entry["backend"] == f"again-{fault}/b1"
        assert entry["outcome"] == "ok"
    assert all("tried" not in entry for entry in entries if not entry["retries"])
    told = gateway.metric("kakehi_cluster_retries_total", cluster=f"again-{fault}")
    assert told == len(bad.requests)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("methods", ["idempotent", "all"])
def test_what_may_not_be_repeated_is_sent_once(
    gateway: Gateway, backends: Backends, fault: str, methods: str
) -> None:
    """An order by its method, and a body of which not all is kept (T29)."""
    script, retry = FAULTS[fault]
    used = [backends(script), backends(script)]
    retry = {**retry, "methods": methods, "body_bytes": "0B" if methods == "all" else "64KiB"}
    host = _cluster(gateway, f"once-{fault}-{methods[:3]}", used, retry=retry)
    status = {"reset": 502, "status": 503, "late": 504}[fault]
    for number in range(4):
        assert gateway.connect().post(host, b"order %d" % number).status == status
    bodies = [request.body for backend in used for request in backend.requests]
    assert sorted(bodies) == [b"order %d" % number for number in range(4)]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_is_kept_is_told_again(
    gateway: Gateway, backends: Backends, fault: str, framing: str
) -> None:
    script, retry = FAULTS[fault]
    bad, good = backends(script), backends(answer(wire.response(b"good")))
    retry = {**retry, "methods": ["POST"], "body_bytes": "256KiB"}
    name = f"kept-{fault}-{framing[:3]}"
    host = _cluster(gateway, name, [bad, good], retry=retry)
    body = bytes(range(256)) * 500
    for _ in range(4):
        client = gateway.connect()
        if framing == "length":
            assert client.post(host, body).body == b"good"
        else:
            head = f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.send(head.encode() + wire.chunked(body, 9000))
            assert client.read_response("POST").body == b"good"
    assert [request.body for request in good.requests] == [body] * 4
    assert bad.requests


def test_a_body_that_is_too_large_goes_out_once(gateway: Gateway, backends: Backends) -> None:
    used = [backends(answer(BUSY)), backends(answer(BUSY))]
    retry = _retry(statuses=(503,), methods="all", body_bytes="1KiB")
    host = _cluster(gateway, "too-large", used, retry=retry)
    assert gateway.connect().post(host, b"x" * 100_000).status == 503
    assert sum(len(backend.requests) for backend in used) == 1


def test_the_last_answer_is_passed_on(gateway: Gateway, backends: Backends) -> None:
    """One backend is asked again where there is no other, and no more often than is said."""
    alone = backends(answer(BUSY))
    retry = _retry(statuses=(503,), attempts=3)
    host = _cluster(gateway, "alone", [alone], retry=retry)
    response = gateway.connect().get(host)
    assert (response.status, response.body) == (503, b"busy")
    assert len(alone.requests) == 4
    alone.script = answer(wire.response(b"well"))
    assert gateway.connect().get(host).body == b"well"


def test_no_more_is_sent_to_failing_backends_than_the_budget(
    gateway: Gateway, backends: Backends
) -> None:
    """A storm: all answer 503. What is asked of them grows by a fifth, and three a second."""
    used = [backends(answer(BUSY)) for _ in range(3)]
    retry = _retry(statuses=(503,), attempts=3, budget="20%")
    host = _cluster(gateway, "storm", used, retry=retry)
    client, began = gateway.connect(), time.monotonic()
    for _ in range(300):
        assert client.get(host).status == 503
    seconds = int(time.monotonic() - began) + 2
    sent = sum(len(backend.requests) for backend in used)
    assert 300 < sent <= 300 * 1.2 + 3 * seconds
    over = gateway.metric("kakehi_cluster_retries_over_budget_total", cluster="storm")
    assert over > 0
    assert gateway.metric("kakehi_cluster_retries_total", cluster="storm") == sent - 300


@pytest.mark.parametrize(("after", "sent"), [("1", 2), ("60", 1)])
def test_a_backend_says_when_it_is_to_be_asked_again(
    gateway: Gateway, backends: Backends, after: str, sent: int
) -> None:
    fields = [("Retry-After", after)]
    busy = wire.response(b"", status="503 Service Unavailable", fields=fields)
    alone = backends(answer(busy))
    host = _cluster(gateway, f"after-{after}", [alone], retry=_retry(statuses=(503,), attempts=1))
    began = time.monotonic()
    response = gateway.connect().get(host)
    assert response.status == 503
    assert response.get("retry-after") == after.encode()
    assert len(alone.requests) == sent
    assert (time.monotonic() - began >= 0.99) == (sent == 2)


def test_a_pause_grows_and_a_client_may_leave_in_it(gateway: Gateway, backends: Backends) -> None:
    alone = backends(answer(BUSY))
    retry = _retry(statuses=(503,), attempts=10, backoff="10s")
    host = _cluster(gateway, "pausing", [alone], retry=retry)
    client = gateway.connect()
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    # The first further one waits for nothing.
    alone.wait_for_requests(2)
    client.reset()
    entries = gateway.daemon.wait_for_access(lambda entry: entry["host"] == host, 1)
    assert entries[0]["outcome"] == "client_aborted"


def test_connections_that_fail_are_no_reason_where_it_is_not_said(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    good = backends()
    members = {"a": nowhere.refusing(), "b": nowhere.refusing(), "c": good.address}
    host = gateway.cluster("unsaid", members, retry=_retry("reset"))
    statuses = {gateway.connect().get(host).status for _ in range(3)}
    assert 502 in statuses
    host = gateway.cluster("said", members, retry=_retry("connect"))
    assert {gateway.connect().get(host).status for _ in range(3)} == {200}


def test_explain_tells_when_a_request_is_sent_again(gateway: Gateway, backends: Backends) -> None:
    retry = _retry("connect", "reset", statuses=(502, 503), attempts=3, budget="20%")
    host = _cluster(gateway, "told-again", [backends()], retry=retry)
    told = gateway.daemon.run_cli("explain", f"http://{host}/", check=True).stdout
    assert "up to 3 further attempts, after connect, reset, 502" in told
    assert "not over 20% of the requests" in told
