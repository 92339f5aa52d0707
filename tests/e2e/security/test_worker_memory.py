"""What waits in a worker for others to read it has one bound: beyond it nothing more is begun.

The clients of these tests do not read, and are not at fault yet; whoever comes meanwhile is refused
at once and counted, and served again as soon as there is room.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from tests.harness import metrics, ports, processes, wire
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.h2frames import Attacker
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

BOUND_KIB = 1024
CLIENTS = 80
PAGE = "x" * 60_000
_LONG = wire.response(b"x" * (8 << 20))


class Small:
    """One worker that may hold a mebibyte, in front of a backend with long answers."""

    def __init__(self, directory: Path) -> None:
        self.address, self.admin = ports.address(), ports.address()
        self.backend = RawBackend(self.answer)
        self.daemon = Kakehi(Repo(directory / "repository"))
        self.daemon.repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {
                        "access_log": str(self.daemon.access_log),
                        "admin": self.admin,
                        "error_pages": {"503": {"body": PAGE}},
                        "max_buffered_bytes": f"{BOUND_KIB}KiB",
                    },
                    "listeners": {"front": {"address": self.address, "h2c": True}},
                    "clusters": {"shop": {"backends": {"b": {"address": self.backend.address}}}},
                    "frontends": {"all": {"listeners": ["front"], "cluster": "shop"}},
                }
            }
        )
        self.daemon.start()
        self.pid = self.daemon.worker_pids()[0]

    @staticmethod
    def answer(exchange: Exchange) -> None:
        if exchange.request.path == "/never":
            return exchange.wait_for_end()
        return exchange.send(_LONG if exchange.request.path == "/long" else wire.response())

    def status(self) -> int:
        with Connection(self.address) as client:
            return client.get("a").status

    def fill(self) -> list[Connection]:
        """Clients that ask for much and read nothing, until nobody is served any more."""
        silent = []
        while self.status() == 200:
            assert len(silent) < CLIENTS, metrics.scrape(self.admin)
            silent.append(Connection(self.address, receive_buffer=4096))
            silent[-1].send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.02)
        return silent


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path)
    yield made
    made.daemon.stop()
    made.backend.stop()


def test_beyond_the_bound_requests_are_refused_at_once_and_counted(small: Small) -> None:
    assert small.status() == 200
    before_kib = resident_kib(small.pid)
    silent = small.fill()
    numbers = metrics.scrape(small.admin)
    assert numbers["kakehi_worker_buffered_bytes"] >= BOUND_KIB * 1024
    refused = numbers["kakehi_refused_requests_total"]
    began = time.monotonic()
    with Connection(small.address) as client:
        for _ in range(100):
            answer = client.get("a")
            assert (answer.status, answer.keeps_alive) == (503, True)
            # No page that would have to wait in its turn.
            assert PAGE.encode() not in answer.body
    assert time.monotonic() - began < 2
    counted = metrics.scrape(small.admin)["kakehi_refused_requests_total"] - refused
    assert counted == 100
    assert small.daemon.wait_for_access(lambda entry: entry["outcome"] == "overloaded", 100)
    # Those that ask all the same make it no worse.
    for _ in range(CLIENTS):
        silent.append(Connection(small.address, receive_buffer=4096))
        silent[-1].send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.5)
    assert resident_kib(small.pid) - before_kib < 3 * BOUND_KIB
    for client in silent:
        client.close()
    processes.wait_until(lambda: small.status() == 200, "whoever comes is served again")
    held = metrics.wait_for(small.admin, lambda now: now["kakehi_worker_requests"] == 0)
    assert held["kakehi_worker_buffered_bytes"] < BOUND_KIB * 1024 / 2


def test_a_client_that_reads_is_served_to_the_end(small: Small) -> None:
    """In smaller pieces, but whole: who has been let in is not given up for others' sake."""
    silent = [Connection(small.address, receive_buffer=4096) for _ in range(4)]
    with Connection(small.address) as reader:
        reader.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        small.backend.wait_for_requests(1)
        for client in silent:
            client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        small.backend.wait_for_requests(5)
        assert len(reader.read_response().body) == 8 << 20
    for client in silent:
        client.close()


def test_streams_are_refused_without_a_body(small: Small) -> None:
    """A window of nothing must not make the worker keep a page for each of them."""
    silent = small.fill()
    with Attacker(small.address, settings={4: 0}) as client:
        client.send(*(client.request(2 * number + 1) for number in range(50)))
        processes.wait_until(
            lambda: sum(isinstance(each, HeadersFrame) for each in client.read(0.05)) == 50,
            "all are answered",
        )
        ended = [each for each in client.frames if isinstance(each, HeadersFrame)]
        assert all("END_STREAM" in frame.flags for frame in ended)
        assert not any(isinstance(each, DataFrame) for each in client.frames)
    for each in silent:
        each.close()


def test_heads_of_requests_that_wait_count_too(small: Small) -> None:
    """Each is kept until its backend has begun to answer."""
    filling = f"X-Long: {'x' * 28_000}\r\n"
    waiting = []
    while small.status() == 200:
        assert len(waiting) < CLIENTS
        waiting.append(Connection(small.address))
        waiting[-1].send(f"GET /never HTTP/1.1\r\nHost: a\r\n{filling}\r\n".encode())
        small.backend.wait_until(
            lambda: sum(each.path == "/never" for each in small.backend.requests) == len(waiting),
            "it has come",
        )
    for each in waiting:
        each.reset()
    processes.wait_until(lambda: small.status() == 200, "whoever comes is served again")
