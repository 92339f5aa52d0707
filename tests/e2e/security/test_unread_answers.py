"""Clients that ask and never read: memory stays bounded, and `response_write` ends them.

The answers are the proxy's own (an error page for a hostname that nobody serves) or a backend's
small ones; both are made faster than any window or socket takes them. A client that reads slowly,
but steadily, is another matter: it is never cut.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest
from hyperframe.frame import WindowUpdateFrame

from tests.e2e.tls.shop import anyone
from tests.harness import pki, ports, processes, wire
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.h2frames import Attacker, raw
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

GROWTH_KIB_MAX = 8 << 10
WAIT_S_MAX = 1.0
HURRY_S = 2.0
PAGE = "<p>Nothing here</p>" * 200
LONG = 12 << 20
WINDOW = (1 << 31) - 1
BATCH = 100


class Hurried:
    """A worker whose listeners give a write little time, with an innocent client beside."""

    def __init__(self, directory: Path) -> None:
        self.clear, self.secure = ports.address(), ports.address()
        self.backend = RawBackend(self.answer)
        self.daemon = Kakehi(Repo(directory / "repository"))
        pair = pki.make("shop.test")
        timeouts = {"response_write": f"{HURRY_S:g}s"}
        self.daemon.repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {
                        "access_log": "off",
                        "error_pages": {404: {"body": PAGE}},
                    },
                    "certificates": {
                        "shop": {"certificate": "tls/shop.crt", "private_key": "tls/shop.key"}
                    },
                    "listeners": {
                        "clear": {"address": self.clear, "h2c": True, "timeouts": timeouts},
                        "secure": {
                            "address": self.secure,
                            "protocol": "https",
                            "tls": {"default_certificate": "shop"},
                            "timeouts": timeouts,
                        },
                    },
                    "clusters": {"shop": {"backends": {"b": {"address": self.backend.address}}}},
                    "frontends": {
                        "shop": {
                            "listeners": ["clear", "secure"],
                            "hostname": "shop.test",
                            "cluster": "shop",
                        }
                    },
                },
                "tls/shop.crt": pair.chain.decode(),
                "tls/shop.key": pair.key.decode(),
            }
        )
        self.daemon.start()
        self.pid = self.daemon.worker_pids()[0]
        self.waits: list[float] = []
        self._over = threading.Event()
        self._innocent = threading.Thread(target=self._visit)
        self._innocent.start()
        processes.wait_until(lambda: len(self.waits) > 20, "the innocent client is served")
        self.before_kib = resident_kib(self.pid)

    @staticmethod
    def answer(exchange: Exchange) -> None:
        body = b"x" * LONG if exchange.request.path == "/long" else b"ok"
        with contextlib.suppress(OSError):
            exchange.send(wire.response(body))

    def _visit(self) -> None:
        with Connection(self.clear) as client:
            while not self._over.is_set():
                began = time.monotonic()
                assert client.get("shop.test", "/innocent").status == 200
                self.waits.append(time.monotonic() - began)
                time.sleep(0.01)

    def growth_kib(self) -> int:
        return resident_kib(self.pid) - self.before_kib

    def open(self, over: str) -> Attacker:
        """A connection whose windows are as large as they can be."""
        context = None
        if over == "tls":
            context = anyone()
            context.set_alpn_protocols(["h2"])
        address = self.secure if over == "tls" else self.clear
        attacker = Attacker(address, {4: WINDOW}, context=context)
        attacker.send(WindowUpdateFrame(0, window_increment=WINDOW - 65_535))
        return attacker

    def end(self) -> None:
        self._over.set()
        self._innocent.join(30)
        self.daemon.stop()
        self.backend.stop()


@pytest.fixture
def hurried(tmp_path: Path) -> Iterator[Hurried]:
    made = Hurried(tmp_path)
    yield made
    made.end()


def requests(host: str, over: str) -> Iterator[bytes]:
    """Endless GETs in batches: the head is the same few indexed fields each time."""
    scheme = "https" if over == "tls" else "http"
    fields = ((":method", "GET"), (":scheme", scheme), (":authority", host), (":path", "/"))
    encoder = hpack.Encoder()
    yield raw(1, 5, 1, encoder.encode(fields))
    block = encoder.encode(fields)
    stream = 3
    while True:
        yield b"".join(raw(1, 5, stream + 2 * number, block) for number in range(BATCH))
        stream += 2 * BATCH


def never_read(hurried: Hurried, client: socket.socket, batches: Iterator[bytes]) -> None:
    """Send whatever is taken and read nothing, until the other side has had enough of it."""
    client.setblocking(False)
    poll = select.poll()
    poll.register(client, select.POLLERR | select.POLLHUP)
    began = moved = time.monotonic()
    left, grown = b"", 0
    while not poll.poll(0):
        left = left or next(batches)
        try:
            left = left[client.send(left) :]
            moved = time.monotonic()
        except (BlockingIOError, ssl.SSLWantWriteError):
            time.sleep(0.02)
        except OSError:
            break
        grown = max(grown, hurried.growth_kib())
        assert grown <= GROWTH_KIB_MAX, f"grown by {grown} KiB"
        now = time.monotonic()
        assert now - moved < 3 * HURRY_S, "it is given more time than the listener has"
        assert now - began < 20 * HURRY_S, "it is read for ever"
    # One of many may have met a moment when this machine did something else.
    waits = sorted(hurried.waits)
    assert waits[max(len(waits) - 2, 0)] <= WAIT_S_MAX, waits[-5:]
    assert hurried.daemon.worker_pids() == [hurried.pid]


@pytest.mark.parametrize("over", ["clear", "tls"])
@pytest.mark.parametrize("host", ["nobody.test", "shop.test"], ids=["own page", "backend"])
def test_who_never_reads_streams_is_not_read(hurried: Hurried, host: str, over: str) -> None:
    with hurried.open(over) as attacker:
        never_read(hurried, attacker.socket, requests(host, over))


@pytest.mark.parametrize("host", ["nobody.test", "shop.test"], ids=["own page", "backend"])
def test_who_never_reads_a_pipeline_is_not_read(hurried: Hurried, host: str) -> None:
    def batches() -> Iterator[bytes]:
        while True:
            yield f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * BATCH

    with Connection(hurried.clear) as client:
        never_read(hurried, client.socket, batches())


@pytest.mark.parametrize("over", ["clear", "tls"])
def test_a_slow_but_steady_reader_is_never_cut(hurried: Hurried, over: str) -> None:
    """The kernel holds more of a response than is read in several `response_write`."""
    fields = ((":method", "GET"), (":scheme", "http"), (":authority", "shop.test"))
    with hurried.open(over) as client:
        client.send(client.request(1, (*fields, (":path", "/long"))))
        received = bytearray()
        until = time.monotonic() + 5 * HURRY_S
        client.socket.settimeout(10)
        while time.monotonic() < until:
            received += client.socket.recv(8192)
            time.sleep(0.05)
        assert len(received) < LONG / 2
        while len(received) < LONG:
            data = client.socket.recv(1 << 18)
            assert data, f"cut after {len(received)} bytes"
            received += data


def test_a_slow_but_steady_reader_of_http_1_is_never_cut(hurried: Hurried) -> None:
    with Connection(hurried.clear) as client:
        client.send(b"GET /long HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        until = time.monotonic() + 5 * HURRY_S
        received = 0
        while time.monotonic() < until:
            received += len(client.socket.recv(8192))
            time.sleep(0.05)
        assert received < LONG / 2
        assert received + client.count_to_close() > LONG
