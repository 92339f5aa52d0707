"""More than it can take: refused at once and counted, while the others are served as before (D10).

Whatever came in must come out once: accepted = served + refused, by the clients' count, by the
backend's, by the access log's and by the metrics'.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.harness import metrics, ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

CONNECTIONS = 40
REQUESTS = 8
# Whoever has been answered less than 20 ms ago is about to ask again, and is not sent away.
REALLY_IDLE_S = 0.1
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Small:
    """A daemon of one worker with room for little."""

    daemon: Kakehi
    backend: RawBackend
    address: str
    admin: str
    connections: list[rawclient.Connection] = field(default_factory=list)

    def connect(self) -> rawclient.Connection:
        """Open a connection; the end of the test closes it."""
        self.connections.append(rawclient.Connection(self.address))
        return self.connections[-1]

    def numbers(self) -> dict[str, float]:
        return metrics.scrape(self.admin)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    address, admin, backend = ports.address(), ports.address(), RawBackend()
    repo = Repo(tmp_path_factory.mktemp("small"))
    running = Kakehi(repo, workers=1)
    repo.commit(
        {
            "kakehi.yaml": {
                "settings": {
                    "access_log": str(running.access_log),
                    "admin": admin,
                    "drain_timeout": "3s",
                    "max_connections": CONNECTIONS,
                    "max_requests": REQUESTS,
                },
                "listeners": {"front": {"address": address}},
                "clusters": {"only": {"backends": {"raw": {"address": backend.address}}}},
                "frontends": {"all": {"listeners": ["front"], "cluster": "only"}},
            }
        }
    )
    with running:
        yield Small(running, backend, address, admin)
    backend.stop()


@pytest.fixture
def small(daemon: Small) -> Iterator[Small]:
    """The same for each test, at rest before it and after it."""
    _at_rest(daemon)
    yield daemon
    for client in daemon.connections:
        client.close()
    daemon.connections.clear()
    daemon.backend.reset()
    _at_rest(daemon)


def _at_rest(small: Small) -> dict[str, float]:
    """Wait until nothing is going on, and return the numbers."""
    return metrics.wait_for(
        small.admin,
        lambda now: now["kakehi_worker_connections"] == 0 and now["kakehi_worker_requests"] == 0,
    )


def _hold(exchange: Exchange) -> None:
    exchange.wait_for_go()
    exchange.send(wire.response())


def _grown(before: dict[str, float], after: dict[str, float], name: str) -> int:
    return int(after.get(name, 0) - before.get(name, 0))


def test_requests_beyond_the_limit_are_refused_at_once_and_counted(small: Small) -> None:
    before = small.numbers()
    small.backend.script = _hold
    clients = [small.connect() for _ in range(REQUESTS * 3)]
    for client in clients[:REQUESTS]:
        client.send(REQUEST)
    small.backend.wait_for_requests(REQUESTS)
    started = time.monotonic()
    for client in clients[REQUESTS:]:
        client.send(REQUEST)
        response = client.read_response()
        assert response.status == 503
        # A refusal is no reason to hang up: the client may ask again.
        assert response.keeps_alive
    assert time.monotonic() - started < 3
    assert len(small.backend.requests) == REQUESTS

    small.backend.go.set()
    assert [client.read_response().status for client in clients[:REQUESTS]] == [200] * REQUESTS
    # Places that are free again are given away again.
    small.backend.script = small.backend.default
    for client in clients:
        client.send(REQUEST)
        assert client.read_response().status == 200
    for client in clients:
        client.close()

    after = _at_rest(small)
    served, refused = REQUESTS + len(clients), len(clients) - REQUESTS
    assert _grown(before, after, "kakehi_refused_requests_total") == refused
    assert _grown(before, after, "kakehi_responses_total.2xx") == served
    assert _grown(before, after, "kakehi_responses_total.5xx") == refused
    assert len(small.backend.requests) == served


def test_connections_beyond_the_limit_are_refused_at_once_and_counted(small: Small) -> None:
    before = small.numbers()
    busy = _fill(small)
    for _ in range(10):
        with small.connect() as client:
            started = time.monotonic()
            client.send_tolerating_close(REQUEST)
            assert client.read_response().status == 503
            assert time.monotonic() - started < 2
            client.expect_closed()
    for client in busy:
        client.send(b"\r\n")
        # More than max_requests are in flight at no time, since each is answered at once.
        assert client.read_response().status == 200
        client.close()
    after = _at_rest(small)
    accepted = _grown(before, after, "kakehi_connections_accepted_total")
    assert _grown(before, after, "kakehi_refused_connections_total") == 10
    assert accepted == CONNECTIONS + 10
    assert _grown(before, after, "kakehi_requests_total") == CONNECTIONS


def _fill(small: Small) -> list[rawclient.Connection]:
    """Take every place by a client in the middle of a head: none is idle, none may give way."""
    before = small.numbers()
    busy = [small.connect() for _ in range(CONNECTIONS)]
    for client in busy:
        client.send(REQUEST[:-2])
    received = (len(REQUEST) - 2) * CONNECTIONS
    name = "kakehi_bytes_from_clients_total"
    metrics.wait_for(small.admin, lambda now: _grown(before, now, name) == received)
    return busy


def test_full_of_idle_connections_a_fresh_client_is_served_at_once(small: Small) -> None:
    before = small.numbers()
    idle = [small.connect() for _ in range(CONNECTIONS)]
    for client in idle:
        client.send(REQUEST)
        assert client.read_response().status == 200
    time.sleep(REALLY_IDLE_S)
    fresh = [small.connect() for _ in range(10)]
    for client in fresh:
        started = time.monotonic()
        client.send(REQUEST)
        assert client.read_response().status == 200
        assert time.monotonic() - started < 2
    # Those that had been idle for the longest gave way, and no others.
    for client in idle[:10]:
        client.expect_closed()
    for client in idle[10:]:
        client.send(REQUEST)
        assert client.read_response().status == 200
    for client in idle + fresh:
        client.close()
    after = _at_rest(small)
    assert _grown(before, after, "kakehi_evicted_idle_total") == 10
    assert _grown(before, after, "kakehi_refused_connections_total") == 0


def test_a_burst_beyond_the_limit_is_answered_to_the_last_client(small: Small) -> None:
    """Nobody who has just come is idle: some are served, all others are told that it is full."""
    before = small.numbers()
    clients = [socket.socket() for _ in range(5 * CONNECTIONS)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(ports.split(small.address))
    for client in clients:
        client.settimeout(10)
        # A refused client may have been told so, and hung up on, before it asks.
        with contextlib.suppress(OSError):
            client.sendall(REQUEST[:-2] + b"Connection: close\r\n\r\n")
    answers = Counter(_status(client) for client in clients)
    assert set(answers) == {"200", "503"}, answers
    assert answers["200"] >= REQUESTS
    after = _at_rest(small)
    refusals = ("kakehi_refused_connections_total", "kakehi_refused_requests_total")
    assert sum(_grown(before, after, name) for name in refusals) == answers["503"]
    assert _grown(before, after, "kakehi_evicted_idle_total") == 0


def _status(client: socket.socket) -> str:
    with client:
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(4096):
                answer += part
    return answer[9:12].decode()


def test_all_numbers_reconcile_under_a_storm(small: Small) -> None:
    """Fifty clients, each on a connection of its own, against eight places: who gets which answer
    is chance, but what the clients saw, the backend did, was logged and was counted is the same."""
    before = small.numbers()
    storming = b"GET /storm HTTP/1.1\r\nHost: a\r\n\r\n"
    together, rounds = 32, 40

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        time.sleep(0.001)  # work, so that requests overlap
        exchange.send(wire.response())

    small.backend.script = script

    def client_of_a_round(_: int) -> list[int]:
        statuses = []
        with small.connect() as client:
            for _ in range(rounds):
                client.send(storming)
                response = client.read_response()
                statuses.append(response.status)
                assert response.keeps_alive
        return statuses

    with ThreadPoolExecutor(together) as pool:
        seen = Counter(
            s for statuses in pool.map(client_of_a_round, range(together)) for s in statuses
        )
    assert set(seen) <= {200, 503}
    assert seen.total() == together * rounds
    assert seen[200] >= rounds
    after = _at_rest(small)
    assert len(small.backend.requests) == seen[200]
    assert _grown(before, after, "kakehi_responses_total.2xx") == seen[200]
    assert _grown(before, after, "kakehi_responses_total.5xx") == seen[503]
    assert _grown(before, after, "kakehi_refused_requests_total") == seen[503]
    assert _grown(before, after, "kakehi_connections_accepted_total") == together
    entries = small.daemon.wait_for_access(lambda e: e["path"] == "/storm", seen.total())
    assert Counter(entry["status"] for entry in entries) == seen
    assert after["kakehi_access_log_dropped_total"] == before["kakehi_access_log_dropped_total"]


def test_a_queue_never_builds_up(small: Small) -> None:
    """While every place is taken for long, answers stay quick and memory is given back."""
    small.backend.script = _hold
    holders = [small.connect() for _ in range(REQUESTS)]
    for client in holders:
        client.send(REQUEST)
    small.backend.wait_for_requests(REQUESTS)
    slowest = 0.0
    with small.connect() as client:
        for _ in range(500):
            started = time.monotonic()
            client.send(REQUEST)
            assert client.read_response().status == 503
            slowest = max(slowest, time.monotonic() - started)
    assert slowest < 2
    assert len(small.backend.requests) == REQUESTS
    small.backend.go.set()
    for client in holders:
        assert client.read_response().status == 200
        client.close()


def test_refused_clients_that_never_read_are_let_go(small: Small) -> None:
    """A refusal must not cost a place: so many refused connections, and still one is served."""
    busy = _fill(small)
    silent = [small.connect() for _ in range(600)]
    busy[0].send(b"\r\n")
    assert busy[0].read_response().status == 200
    time.sleep(REALLY_IDLE_S)
    # One of the places is idle now, and a fresh client gets it, whatever the silent ones do.
    with small.connect() as fresh:
        fresh.send(REQUEST)
        assert fresh.read_response().status == 200
    for client in busy + silent:
        client.close()


def test_a_slow_client_costs_its_own_place_only(small: Small) -> None:
    """Slowloris at the door: half heads in half of the places leave the other half as quick."""
    slow = [small.connect() for _ in range(CONNECTIONS // 2)]
    for client in slow:
        client.send(b"GET / HTTP/1.1\r\nX: ")
    with small.connect() as client:
        for _ in range(100):
            for each in slow[:2]:
                each.send(b"x")
            client.send(REQUEST)
            assert client.read_response().status == 200
    for client in slow:
        client.close()
