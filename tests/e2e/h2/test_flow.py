"""Flow control end to end: a slow reader slows its sender down, and nobody else."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.h2.conftest import Front
from tests.harness import processes
from tests.harness.h2backend import Request

_MIB = 1 << 20
# What may wait of an answer for a client that does not read, beside what the kernel holds: 32 KiB
# at its stream and a frame at its connection, in buffers of 64 KiB at most that others have used.
_WAITING_MIN, _WAITING_MAX = 16 << 10, 128 << 10
# Made once: thirty of them would keep the backend busy with itself.
_LONG = b"x" * (64 * _MIB)


def long_answers(request: Request) -> None:
    if request.path == "/short":
        return request.answer(b"short")
    request.head()
    return request.send(_LONG, ends=True)


def test_a_stalled_client_holds_up_no_other(front: Front) -> None:
    """30 clients that do not read a long response share the connection with one that does."""
    backend = front.backend(long_answers)
    front.start(backend.address)
    pid = front.daemon.worker_pids()[0]
    with front.connect() as client:
        assert client.get("a", "/short").body == b"short"
    before = processes.resident_mib(pid)
    stalled = [front.connect(receive_buffer=4096) for _ in range(30)]
    try:
        for client in stalled:
            client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        backend.wait_for(31)
        time.sleep(1)
        with front.connect() as client:
            for _ in range(20):
                began = time.monotonic()
                assert client.get("a", "/short").body == b"short"
                assert time.monotonic() - began < 2
        # Each may have a window and what one read brought, and not the response.
        assert processes.resident_mib(pid) - before < 30
    finally:
        for client in stalled:
            client.close()
    assert len(backend.peers) == 1


def test_what_waits_for_a_stalled_client_is_what_its_stream_may_bring(front: Front) -> None:
    backend = front.backend(long_answers)
    front.start(backend.address)
    stalled = [front.connect(receive_buffer=4096) for _ in range(6)]

    def waiting() -> float:
        return front.counted("worker_buffered_bytes") / len(stalled)

    try:
        for client in stalled:
            client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        # What the kernel takes comes first, of each.
        processes.wait_until(lambda: waiting() > _WAITING_MIN, "all of them wait")
        time.sleep(0.5)
        print(f"{waiting() / 1024:.0f} KiB wait for each")
        assert waiting() <= _WAITING_MAX
    finally:
        for client in stalled:
            client.close()


def test_fifty_that_read_are_served_beside_one_that_does_not(front: Front) -> None:
    """All of a connection's window is never what one stream has."""
    body = _LONG[: 2 * _MIB]

    def script(request: Request) -> None:
        request.head()
        request.send(_LONG if request.path == "/long" else body, ends=True)

    backend = front.backend(script)
    front.start(backend.address)

    def read(_: int) -> int:
        with front.connect() as client:
            return len(client.get("a", "/read").body)

    with front.connect(receive_buffer=4096) as stalled:
        stalled.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        backend.wait_for(1)
        time.sleep(0.5)
        with ThreadPoolExecutor(50) as readers:
            assert set(readers.map(read, range(50))) == {len(body)}
    assert len(backend.peers) == 1


def test_a_client_that_reads_gets_a_wider_window(front: Front) -> None:
    """Once it has taken more than the buffers of its system take by themselves."""
    windows: list[int] = []

    def script(request: Request) -> None:
        request.head()
        for _ in range(8 * _MIB // (16 << 10)):
            windows.append(request.window())
            request.send(_LONG[: 16 << 10])
        request.end()

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        assert len(client.get("a", "/").body) == 8 * _MIB
    assert windows[0] <= 32 << 10
    assert max(windows) > 128 << 10


def test_a_stalled_backend_slows_its_client_down(front: Front) -> None:
    """What the backend does not read, the proxy does not take."""

    def script(request: Request) -> None:
        if request.path == "/short":
            return request.answer(b"short")
        time.sleep(3)
        return request.answer(str(len(request.read())).encode())

    backend = front.backend(script)
    front.start(backend.address)
    pid = front.daemon.worker_pids()[0]
    with front.connect() as client:
        client.get("a", "/short")
    before = processes.resident_mib(pid)

    def upload() -> bytes:
        with front.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (20 * _MIB))
            client.send(b"x" * (20 * _MIB))
            return client.read_response().body

    with ThreadPoolExecutor(4) as pool:
        uploads = [pool.submit(upload) for _ in range(4)]
        backend.wait_for(5)
        time.sleep(1)
        assert processes.resident_mib(pid) - before < 8
        with front.connect() as client:
            assert client.get("a", "/short").body == b"short"
        assert [each.result(60) for each in uploads] == [str(20 * _MIB).encode()] * 4


def test_long_bodies_both_ways_at_once(front: Front) -> None:
    def script(request: Request) -> None:
        request.head()
        for part in request.parts():
            request.send(part)
        request.end()

    front.start(front.backend(script).address)
    path = front.directory / "body"
    body = bytes(range(251)) * 20_000
    path.write_bytes(body)
    for version in ("--http1.1", "--http2-prior-knowledge"):
        status, _, answer = front.curl("/", version, "--data-binary", f"@{path}", "-H", "Expect:")
        assert (status, answer == body) == (200, True)
