"""T01–T08 over real HTTP/2: plain abuse is ended, memory is bounded, others are served meanwhile.

What holds for each attack is in `Siege`: the worker that was attacked goes on, has grown by 4 MiB
at most, and has kept an innocent client waiting for 0.3 s at most.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.harness import ports, processes, wire
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.h2frames import GET, Attacker, continuation, raw
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

GROWTH_KIB_MAX = 4096
WAIT_S_MAX = 0.3
FRAMES_MAX = 300
NO_ERROR, PROTOCOL, FLOW, COMPRESSION, CALM = 0, 1, 3, 9, 11
LONG = 256 << 10
_WARM = 50


def answered(client: Attacker) -> int:
    """How many responses have begun."""
    return sum(isinstance(each, HeadersFrame) for each in client.read(0.05))


class Siege:
    """A worker under attack, with an innocent client beside."""

    def __init__(self, directory: Path) -> None:
        self.address = ports.address()
        self.backend = RawBackend(self.answer)
        self.daemon = Kakehi(Repo(directory / "repository"))
        self.daemon.repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {"access_log": "off"},
                    "listeners": {
                        "front": {
                            "address": self.address,
                            "h2c": True,
                            "timeouts": {"request_body": "2s", "response_write": "3s"},
                        }
                    },
                    "clusters": {"shop": {"backends": {"b": {"address": self.backend.address}}}},
                    "frontends": {"all": {"listeners": ["front"], "cluster": "shop"}},
                }
            }
        )
        self.daemon.start()
        self.pid = self.daemon.worker_pids()[0]
        self.waits: list[float] = []
        self._over = threading.Event()
        self._innocent = threading.Thread(target=self._visit)
        # What a worker allocates once, and keeps.
        for _ in range(3):
            with Attacker(self.address) as warm:
                warm.send(*(warm.request(2 * number + 1) for number in range(_WARM)))
                # The backend is a Python thread a connection: nobody shall wait for these later.
                processes.wait_until(lambda each=warm: answered(each) == _WARM, "all are answered")
        self.before_kib = resident_kib(self.pid)
        self._innocent.start()
        processes.wait_until(lambda: self.waits, "the innocent client is served")
        # The innocent client's, and those that wait for a next request.
        self.kept = self.backend_connections()

    @staticmethod
    def answer(exchange: Exchange) -> None:
        if exchange.request.path == "/long":
            exchange.send(wire.response(b"x" * LONG))
        elif exchange.request.path == "/never":
            exchange.wait_for_go()
        else:
            exchange.send(wire.response(b"ok"))

    def _visit(self) -> None:
        with Connection(self.address) as client:
            while not self._over.is_set():
                began = time.monotonic()
                client.get("a", "/innocent")
                self.waits.append(time.monotonic() - began)
                time.sleep(0.01)

    def backend_connections(self) -> int:
        """How many connections to the backend are open."""
        return len(processes.connections(self.pid, self.backend.address))

    def growth_kib(self) -> int:
        return resident_kib(self.pid) - self.before_kib

    def lift(self) -> None:
        """End the siege, and judge it."""
        grown = self.growth_kib()
        self._over.set()
        self._innocent.join(30)
        try:
            assert self.daemon.worker_pids() == [self.pid], "the worker has died"
            assert grown <= GROWTH_KIB_MAX, f"grown by {grown} KiB"
            # One of many may have met a moment when this machine did something else.
            waits = sorted(self.waits)
            assert waits
            assert waits[max(len(waits) - 2, 0)] <= WAIT_S_MAX, waits[-5:]
            with Attacker(self.address) as honest:
                honest.send(honest.request(1))
                processes.wait_until(
                    lambda: any(isinstance(each, HeadersFrame) for each in honest.read(0.1)),
                    "an answer",
                )
        finally:
            self.backend.go.set()
            self.daemon.stop()
            self.backend.stop()


@pytest.fixture
def siege(tmp_path: Path) -> Iterator[Siege]:
    made = Siege(tmp_path)
    yield made
    made.lift()


def flood(attacker: Attacker, *frames: bytes, times: int = 20_000) -> None:
    """Send so many batches, or until the proxy has had enough."""
    for number in range(times):
        if not attacker.send(*frames):
            break
        if number % 50 == 49:
            attacker.read()
            if attacker.closed:
                break
    attacker.read_to_close()


def assert_ended(attacker: Attacker, *codes: int) -> None:
    assert attacker.closed
    assert attacker.go_away() in codes, attacker.go_away()


def test_t01_rapid_reset(siege: Siege) -> None:
    with Attacker(siege.address) as attacker:
        for number in range(50_000):
            stream = 2 * number + 1
            if not attacker.send(attacker.request(stream), RstStreamFrame(stream, 8)):
                break
            if number % 50 == 49:
                attacker.read()
                if attacker.closed:
                    break
        attacker.read_to_close()
        assert_ended(attacker, CALM)
        assert attacker.sent < 5000


@pytest.mark.parametrize("how", ["window of 0", "window overflow", "data after end", "priority"])
def test_t02_made_you_reset(siege: Siege, how: str) -> None:
    """The peer makes us reset each stream, after the backend was asked."""
    path = (*GET[:3], (":path", "/never"))
    bad = {
        "window of 0": lambda stream: raw(8, 0, stream, struct.pack(">I", 0)),
        "window overflow": lambda stream: raw(8, 0, stream, struct.pack(">I", 0x7FFFFFFF)),
        "data after end": lambda stream: DataFrame(stream, b"x").serialize(),
        "priority": lambda stream: raw(2, 0, stream, b"\0\0\0\0"),
    }[how]
    with Attacker(siege.address) as attacker:
        for number in range(2000):
            stream = 2 * number + 1
            if not attacker.send(attacker.request(stream, path), bad(stream)):
                break
            attacker.read()
            if attacker.closed:
                break
        attacker.read_to_close()
        assert_ended(attacker, CALM, 5)
        assert attacker.sent <= FRAMES_MAX
    # What was begun for them has been given up.
    processes.wait_until(
        lambda: siege.backend_connections() <= siege.kept,
        "the backend is asked for nobody any more",
    )


@pytest.mark.parametrize("piece", [0, 1, 16_384])
def test_t03_continuation_flood(siege: Siege, piece: int) -> None:
    with Attacker(siege.address) as attacker:
        attacker.send(raw(1, 0, 1, b"\x82"))
        for _ in range(100_000):
            if not attacker.send(continuation(1, b"\0" * piece).serialize()):
                break
            attacker.read()
            if attacker.closed:
                break
        attacker.read_to_close()
        assert_ended(attacker, CALM)
        assert attacker.sent <= FRAMES_MAX


def bomb(stream: int, count: int) -> bytes:
    """A head of so many references to one long field: a byte each."""
    encoder = hpack.Encoder()
    block = encoder.encode((*GET, ("x-bomb", "b" * 3900)))
    # 62: the newest entry of the dynamic table.
    return raw(1, 5, stream, block + b"\xbe" * count)


def test_t04_bombs_held_by_a_window_of_zero(siege: Siege) -> None:
    with Attacker(siege.address, {4: 0}) as attacker:
        attacker.send(*(bomb(2 * number + 1, 16_000 // 4) for number in range(100)))
        for _ in range(20):
            attacker.read(0.05)
            assert siege.growth_kib() <= GROWTH_KIB_MAX
        attacker.read_to_close()


def test_t04_crumbs_of_cookies(siege: Siege) -> None:
    """Each crumb counts as a field."""
    fields = (*GET, *(("cookie", "a=b") for _ in range(4000)))
    with Attacker(siege.address, {4: 0}) as attacker:
        for number in range(50):
            if not attacker.send(attacker.request(2 * number + 1, fields)):
                break
        attacker.read(1)
        assert siege.growth_kib() <= GROWTH_KIB_MAX


@pytest.mark.parametrize(
    "block",
    [b"\x3f\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff", b"\xc0", b"\x82\x20", b"\0\x85\xff"],
    ids=["huge table", "huge index", "index of nobody", "late update", "cut string"],
)
def test_t05_hpack_that_cannot_be(siege: Siege, block: bytes) -> None:
    with Attacker(siege.address) as attacker:
        attacker.send(raw(1, 5, 1, block))
        attacker.read_to_close()
        assert_ended(attacker, COMPRESSION)


@pytest.mark.parametrize(
    "frame",
    [
        SettingsFrame(0).serialize(),
        SettingsFrame(0, settings={4: 65_535}).serialize(),
        PingFrame(0, b"12345678").serialize(),
        raw(2, 0, 3, b"\0\0\0\0\x10"),
        raw(0xEE, 0, 0, b"x"),
        raw(16, 0, 0, b"\0\0\0\1u=1"),
        WindowUpdateFrame(0, window_increment=1).serialize(),
    ],
    ids=["settings", "window setting", "ping", "priority", "unknown", "priority update", "window"],
)
def test_t06_floods_of_frames_that_do_nothing(siege: Siege, frame: bytes) -> None:
    with Attacker(siege.address) as attacker:
        flood(attacker, frame)
        assert_ended(attacker, CALM, FLOW)


def test_t06_empty_data(siege: Siege) -> None:
    path = ((":method", "POST"), *GET[1:])
    with Attacker(siege.address) as attacker:
        attacker.send(attacker.request(1, path, ends=False))
        flood(attacker, raw(0, 0, 1))
        assert_ended(attacker, CALM)


def test_t06_answers_that_are_not_read(siege: Siege) -> None:
    """A peer that asks and never reads is found out by what waits for it."""
    with Attacker(siege.address) as attacker:
        attacker.socket.settimeout(5)
        ping = PingFrame(0, b"12345678").serialize() * 100
        for _ in range(20_000):
            if not attacker.send(ping):
                break
        attacker.read_to_close()
        assert siege.growth_kib() <= GROWTH_KIB_MAX


@pytest.mark.parametrize("window", [0, 1])
def test_t07_a_hundred_responses_that_nobody_reads(siege: Siege, window: int) -> None:
    path = (*GET[:3], (":path", "/long"))
    with Attacker(siege.address, {4: window}) as attacker:
        attacker.send(*(attacker.request(2 * number + 1, path) for number in range(100)))
        for _ in range(20):
            attacker.read(0.05)
            assert siege.growth_kib() <= GROWTH_KIB_MAX
        # Streams that do not move are given up within `response_write`.
        deadline = time.monotonic() + 10
        while len(attacker.resets()) < 100 and not attacker.closed:
            assert time.monotonic() < deadline, f"{len(attacker.resets())} of 100 streams given up"
            attacker.read(0.2)


def test_t07_a_window_that_opens_by_single_bytes(siege: Siege) -> None:
    path = (*GET[:3], (":path", "/long"))
    with Attacker(siege.address, {4: 0}) as attacker:
        attacker.send(attacker.request(1, path))
        flood(attacker, WindowUpdateFrame(1, window_increment=1).serialize())
        assert_ended(attacker, CALM)


@pytest.mark.timed
def test_t08_half_a_header_block(siege: Siege) -> None:
    with Attacker(siege.address) as attacker:
        attacker.send(raw(1, 0, 1, b"\x82"))
        assert attacker.read_to_close() <= 5.5
        assert_ended(attacker, CALM)


@pytest.mark.timed
def test_t08_half_a_frame(siege: Siege) -> None:
    with Attacker(siege.address) as attacker:
        attacker.send(raw(1, 5, 1, b"\x82" * 100)[:30])
        assert attacker.read_to_close() <= 5.5


def test_t08_a_body_that_does_not_come(siege: Siege) -> None:
    path = ((":method", "POST"), *GET[1:], ("content-length", "10"))
    with Attacker(siege.address) as attacker:
        attacker.send(attacker.request(1, path, ends=False), DataFrame(1, b"x").serialize())
        began = time.monotonic()
        while not any(isinstance(frame, HeadersFrame) for frame in attacker.frames):
            assert time.monotonic() - began < 6
            attacker.read(0.2)


def test_streams_that_are_reset_hold_no_more_than_streams_that_are_not(siege: Siege) -> None:
    """A lane outlives its stream while its backend is to read: one bound is for both."""
    path = ((":method", "POST"), *GET[1:3], (":path", "/never"))
    with Attacker(siege.address) as attacker:
        for number in range(120):
            stream = 2 * number + 1
            body = DataFrame(stream, b"x" * 1000).serialize()
            if not attacker.send(attacker.request(stream, path, ends=False), body):
                break
        attacker.read(1)
        assert siege.growth_kib() <= GROWTH_KIB_MAX
        assert set(attacker.resets().values()) <= {7, CALM}
