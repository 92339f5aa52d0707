"""Another backend when connecting failed; never a second sending of what may have been received."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.fixtures import Nowhere
from tests.harness.gateway import Gateway
from tests.harness.rawbackend import Exchange, RawBackend

Backends = Callable[..., RawBackend]


def _cluster(gateway: Gateway, name: str, addresses: list[str], **settings: object) -> str:
    return gateway.cluster(
        name, {f"b{number}": address for number, address in enumerate(addresses)}, **settings
    )


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_refusing_backend_is_passed_over(
    gateway: Gateway, backends: Backends, method: str, nowhere: Nowhere
) -> None:
    alive, refusing = backends(), nowhere.refusing()
    host = _cluster(gateway, f"passed-over-{method.lower()}", [refusing, alive.address])
    client = gateway.connect()
    for number in range(12):
        body = b"body %d" % number
        head = f"{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(head.encode() + body)
        assert client.read_response(method).status == 200
    assert [request.body for request in alive.requests] == [b"body %d" % n for n in range(12)]


def test_a_body_that_is_still_coming_is_not_lost_by_a_retry(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    alive, refusing = backends(), nowhere.refusing()
    host = _cluster(gateway, "still-coming", [refusing, alive.address])
    body = bytes(range(256)) * 4000
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    client = gateway.connect()
    for _ in range(4):
        data = head + wire.chunked(body, 10_000)
        client.send_pieces([data[:100], data[100:70_000], data[70_000:]], 0.01)
        assert client.read_response("POST").status == 200
    assert all(request.body == body for request in alive.requests)
    assert len(alive.requests) == 4


@pytest.mark.parametrize(("retries", "expected"), [(1, 502), (2, 200)])
def test_retries_are_counted(
    gateway: Gateway, backends: Backends, retries: int, expected: int, nowhere: Nowhere
) -> None:
    """With r refusing backends before the one alive, r retries are what it takes."""
    alive, first, second = backends(), nowhere.refusing(), nowhere.refusing()
    host = _cluster(
        gateway,
        f"counted-{retries}",
        [first, second, alive.address],
        retries=retries,
    )
    client = gateway.connect()
    statuses = Counter(client.get(host).status for _ in range(12))
    assert set(statuses) <= {200, 502}
    assert statuses[expected] > 0
    if retries == 2:
        assert statuses == {200: 12}


def test_without_retries_a_refused_connection_is_502(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    alive, refusing = backends(), nowhere.refusing()
    host = _cluster(gateway, "no-retries", [refusing, alive.address], retries=0)
    client = gateway.connect()
    statuses = Counter(client.get(host).status for _ in range(12))
    assert statuses[502] >= 1
    assert statuses[502] + statuses[200] == 12


def test_a_connection_that_times_out_is_retried_too(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    alive, unanswering = backends(), nowhere.unanswering()
    host = _cluster(
        gateway,
        "timed-out",
        [unanswering, alive.address],
        timeouts={"connect": "300ms"},
    )
    client = gateway.connect()
    assert [client.get(host).status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_backend_that_dies_after_it_was_asked_is_not_replaced(
    gateway: Gateway, backends: Backends, method: str
) -> None:
    """It may have done what it was asked: the client decides whether to ask again (T29)."""
    seen: list[bytes] = []
    lock = threading.Lock()

    def die(exchange: Exchange) -> None:
        exchange.read_body()
        with lock:
            seen.append(exchange.request.target)
        exchange.close()

    host = _cluster(
        gateway, f"dies-{method.lower()}", [backends(die).address, backends(die).address]
    )
    client = gateway.connect()
    for number in range(4):
        head = f"{method} /{number} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nxy"
        client.send(head.encode())
        assert client.read_response(method).status == 502
    assert sorted(seen) == [b"/0", b"/1", b"/2", b"/3"]


def test_a_backend_that_dies_in_its_response_is_not_replaced(
    gateway: Gateway, backends: Backends
) -> None:
    def die(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial")
        exchange.close()

    made = [backends(die), backends(die)]
    host = _cluster(gateway, "dies-late", [backend.address for backend in made])
    client = gateway.connect()
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert client.read_head().status == 200
    assert client.read_to_close() == b"partial"
    assert sum(len(backend.requests) for backend in made) == 1


def test_all_refusing_is_one_502(gateway: Gateway, nowhere: Nowhere) -> None:
    refusing = [nowhere.refusing() for _ in range(3)]
    host = _cluster(gateway, "all-refusing", refusing, retries=10)
    client = gateway.connect()
    assert client.get(host).status == 502
    assert client.get(host).status == 502


def test_a_backend_that_comes_up_is_used_by_the_next_request(gateway: Gateway) -> None:
    with ports.bound() as listener:
        host = _cluster(gateway, "comes-up", [ports.of(listener)])
        client = gateway.connect()
        assert client.get(host).status == 502
        listener.listen()
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        listener.settimeout(10)
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(10)
            assert accepted.recv(65536).startswith(b"GET / HTTP/1.1\r\n")
            accepted.sendall(wire.response())
            assert client.read_response().body == b"ok"


def test_a_poison_request_visits_two_backends_at_most(gateway: Gateway, backends: Backends) -> None:
    """It ends every connection that it comes by: one repetition, on a fresh one, and no more."""

    def answer_or_die(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.target == b"/poison":
            exchange.close()
        else:
            exchange.send(wire.response())

    made = [backends(answer_or_die) for _ in range(6)]
    host = _cluster(
        gateway, "poison", [each.address for each in made], retries=1, load_balancing="round_robin"
    )
    client = gateway.connect()
    # Enough for a pooled connection to each of them, at each worker.
    assert {client.get(host).status for _ in range(48)} == {200}
    assert client.get(host, "/poison").status == 502
    poisoned = [
        request for each in made for request in each.requests if request.target == b"/poison"
    ]
    assert len(poisoned) == 2
    assert client.get(host).status == 200


def test_a_stale_connection_to_the_only_backend_is_replaced_by_a_fresh_one(
    gateway: Gateway, backends: Backends
) -> None:
    """Nobody else is there; and what went out on a fresh connection is not sent a third time."""
    alone = backends()
    host = _cluster(gateway, "stale-alone", [alone.address], retries=1)
    client = gateway.connect()
    assert client.get(host).status == 200

    def die_on_reused(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.ordinal > 1:
            exchange.close()
        else:
            exchange.send(wire.response())

    alone.script = die_on_reused
    before = len(alone.requests)
    statuses = [client.get(host, f"/{number}").status for number in range(6)]
    assert statuses == [200] * 6
    assert len(alone.requests) - before <= 12


def test_after_a_pause_one_request_finds_out_for_all(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    """A black hole takes every connect its full time: one request may lose it, the others not."""
    alive = [backends().address for _ in range(2)]
    addresses = [*alive, nowhere.unanswering()]
    host = _cluster(gateway, "hole", addresses, timeouts={"connect": "1s"})
    with gateway.connect() as client:
        for _ in addresses:
            assert client.get(host).status == 200

    def ask(_: int) -> float:
        with rawclient.Connection(gateway.addresses["main"]) as client:
            began = time.monotonic()
            assert client.get(host).status == 200
            return time.monotonic() - began

    # The first pause is 250 ms.
    time.sleep(0.4)
    with ThreadPoolExecutor(24) as pool:
        waits = list(pool.map(ask, range(24)))
    assert sum(wait > 0.9 for wait in waits) == 1, sorted(waits)[-8:]
