"""When an answer is late, on a connection to a backend that is shared."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.e2e.h2.conftest import Front
from tests.harness import ports
from tests.harness.h2backend import Request
from tests.harness.h2frames import PREFACE

SIZE = 3_000_000
HEAD_S = 0.7
HUGE = 1 << 30


def read_slowly(listening: socket.socket) -> None:
    """Take a request of which all may be sent at once, 800 KB/s, and answer it."""
    with contextlib.suppress(OSError):
        plain, _ = listening.accept()
        with plain:
            plain.sendall(
                SettingsFrame(0, settings={4: HUGE}).serialize()
                + WindowUpdateFrame(0, window_increment=HUGE).serialize()
            )
            buffer, taken, stream = b"", 0, 0
            while taken < SIZE:
                data = plain.recv(40_000)
                if not data:
                    return
                buffer = (buffer + data).removeprefix(PREFACE)
                while len(buffer) >= 9:
                    frame, length = Frame.parse_frame_header(memoryview(buffer[:9]))
                    if len(buffer) < 9 + length:
                        break
                    buffer = buffer[9 + length :]
                    if isinstance(frame, DataFrame):
                        taken, stream = taken + length, frame.stream_id
                time.sleep(0.05)
            block = hpack.Encoder().encode([(":status", "200")])
            flags = ["END_HEADERS", "END_STREAM"]
            plain.sendall(HeadersFrame(stream, block, flags=flags).serialize())
            plain.recv(1)


def test_a_slow_upload_is_no_late_response(front: Front) -> None:
    """`response_head` begins when the last byte has left, whatever the windows allow."""
    with ports.listening() as listening:
        thread = threading.Thread(target=read_slowly, args=[listening], daemon=True)
        thread.start()
        address = ports.of(listening)
        front.start(address, timeouts={"response_head": f"{HEAD_S * 1000:.0f}ms"}, retries=0)
        with front.connect() as client:
            began = time.monotonic()
            client.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n".encode())
            client.send(bytes(SIZE))
            assert client.read_response("POST").status == 200
            assert time.monotonic() - began > 2 * HEAD_S


def test_an_answer_is_late_whatever_others_on_the_connection_get(front: Front) -> None:
    over = threading.Event()

    def script(request: Request) -> None:
        if request.path == "/never":
            over.wait(30)
        request.answer(b"ok")

    backend = front.backend(script)
    front.start(backend.address, timeouts={"response_head": f"{HEAD_S * 1000:.0f}ms"}, retries=0)

    def go_on() -> None:
        with front.connect() as other:
            while not over.is_set():
                assert other.get("a", "/quick").status == 200
                time.sleep(0.01)

    with front.connect() as client:
        others = threading.Thread(target=go_on)
        others.start()
        try:
            began = time.monotonic()
            assert client.get("a", "/never").status == 504
            assert time.monotonic() - began < 3 * HEAD_S
        finally:
            over.set()
            others.join()
    assert len(backend.peers) == 1
