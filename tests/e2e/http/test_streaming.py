"""Bodies far larger than memory should hold, and peers that are slower than one another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness import wire
from tests.harness.daemon import resident_kib
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange

GIB = 1 << 30
GROWTH_KIB_MAX = 16 * 1024
_BLOCK = b"x" * (1 << 20)


@contextmanager
def bounded_memory(lane: Lane) -> Iterator[None]:
    """Fail when the worker's own memory grows by more than 16 MiB meanwhile."""
    pid = lane.gateway.worker_pid()
    before = resident_kib(pid)
    most = before
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, resident_kib(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    most = max(most, resident_kib(pid))
    assert most - before < GROWTH_KIB_MAX, f"grew by {most - before} KiB from {before} KiB"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("framing", ["length", "close"])
def test_a_download_of_one_gibibyte(lane: Lane, framing: str) -> None:
    def script(exchange: Exchange) -> None:
        field = f"Content-Length: {GIB}" if framing == "length" else "Connection: close"
        exchange.send(f"HTTP/1.1 200 OK\r\n{field}\r\n\r\n".encode())
        for _ in range(GIB // len(_BLOCK)):
            exchange.send(_BLOCK)
        if framing == "close":
            exchange.close()

    lane.backend.script = script
    client = lane.connect()
    with bounded_memory(lane):
        client.send(lane.head("GET /", "Connection: close"))
        head = client.read_head()
        assert head.status == 200
        total = client.count_to_close()
    if head.all("transfer-encoding"):
        # A body that only the end of the connection bounds may have been put in chunks for us.
        assert framing == "close"
        assert GIB < total < GIB * 1.01
    else:
        assert total == GIB


@pytest.mark.timeout(120)
def test_a_chunked_download_of_a_quarter_gibibyte(lane: Lane) -> None:
    size = GIB // 4
    chunk = b"%x\r\n%s\r\n" % (len(_BLOCK), _BLOCK)

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size // len(_BLOCK)):
            exchange.send(chunk)
        exchange.send(b"0\r\n\r\n")

    lane.backend.script = script
    client = lane.connect()
    with bounded_memory(lane):
        client.send(lane.head("GET /"))
        assert client.read_head().status == 200
        reader, total = wire.ChunkReader(), 0
        while not reader.done:
            assert client.fill()
            reader.feed(client.take_buffer())
            total += len(reader.body)
            reader.body.clear()
    assert total == size
    lane.backend.script = lane.backend.default
    assert client.get(lane.host).body == b"ok"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_of_one_gibibyte(lane: Lane, framing: str) -> None:
    counted: list[int] = []

    def script(exchange: Exchange) -> None:
        exchange.connection.keep_bytes = False
        if framing == "length":
            counted.append(exchange.count_body(GIB))
        else:
            counted.append(exchange.count_to_last_chunk())
        exchange.send(wire.response())

    lane.backend.script = script
    client = lane.connect()
    with bounded_memory(lane):
        if framing == "length":
            client.send(lane.head("POST /", f"Content-Length: {GIB}"))
            block, end = _BLOCK, b""
        else:
            client.send(lane.head("POST /", "Transfer-Encoding: chunked"))
            block, end = b"%x\r\n%s\r\n" % (len(_BLOCK), _BLOCK), b"0\r\n\r\n"
        for _ in range(GIB // len(_BLOCK)):
            client.send(block)
        client.send(end)
        assert client.read_response("POST").status == 200
    assert counted[0] == GIB if framing == "length" else GIB <= counted[0] < GIB * 1.01


def _wait_until_it_stands_still(progress: list[int]) -> None:
    """Wait until the number has not changed for a while: whoever moves it is blocked."""
    seen, since = progress[0], time.monotonic()
    deadline = time.monotonic() + 20
    while time.monotonic() - since < 0.5:
        assert time.monotonic() < deadline, "it never stood still"
        time.sleep(0.02)
        if progress[0] != seen:
            seen, since = progress[0], time.monotonic()


@pytest.mark.timeout(120)
def test_a_slow_reader_holds_the_backend_back(lane: Lane) -> None:
    size = GIB // 4
    sent = [0]

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(_BLOCK)):
            exchange.send(_BLOCK)
            sent[0] += len(_BLOCK)

    lane.backend.script = script
    client = lane.connect()
    with bounded_memory(lane):
        client.send(lane.head("GET /"))
        assert client.read_head().status == 200
        _wait_until_it_stands_still(sent)
        # Socket buffers of the kernel on both sides of the proxy, and little of its own.
        assert sent[0] < 64 << 20
        body = len(client.take_buffer())
        block = bytearray(1 << 20)
        while body < size:
            body += client.socket.recv_into(block)
    assert body == size
    lane.backend.script = lane.backend.default
    assert client.get(lane.host).body == b"ok"


@pytest.mark.timeout(120)
def test_a_slow_backend_holds_the_client_back(lane: Lane) -> None:
    size = GIB // 4
    sent = [0]
    counted: list[int] = []

    def script(exchange: Exchange) -> None:
        exchange.connection.keep_bytes = False
        exchange.wait_for_go()
        counted.append(exchange.count_body(size))
        exchange.send(wire.response())

    lane.backend.script = script
    client = lane.connect()

    def upload() -> None:
        client.send(lane.head("POST /", f"Content-Length: {size}"))
        for _ in range(size // len(_BLOCK)):
            client.send(_BLOCK)
            sent[0] += len(_BLOCK)

    with bounded_memory(lane):
        uploading = threading.Thread(target=upload)
        uploading.start()
        lane.backend.wait_for_requests(1)
        _wait_until_it_stands_still(sent)
        assert sent[0] < 64 << 20
        lane.backend.go.set()
        uploading.join(60)
        assert client.read_response("POST").status == 200
    assert counted == [size]


@pytest.mark.timeout(120)
def test_many_slow_readers_are_bounded_too(lane: Lane) -> None:
    """Each has megabytes waiting in the kernel; the worker keeps no more than a buffer for each."""
    size = 8 << 20
    lane.backend.script = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + _BLOCK * 8
    )
    with bounded_memory(lane):
        clients = [lane.connect(receive_buffer=4096) for _ in range(40)]
        for client in clients:
            client.send(lane.head("GET /"))
        for client in clients:
            assert client.read_head().status == 200
        # While they stand still, somebody else is served.
        for _ in range(20):
            assert lane.gateway.connect().get("nowhere.test").status == 404
        for client in clients[:4]:
            client.read_exactly(size)
