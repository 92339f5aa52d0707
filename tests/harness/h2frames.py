"""An HTTP/2 client that sends any frame, in order or not, and notes what it is answered.

For attacks: it keeps no state of streams and windows, and acknowledges nothing unless told.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from types import TracebackType

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.harness import ports

DEADLINE_S = 20.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = ((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"))


class Attacker:
    """Use as a context manager."""

    def __init__(
        self,
        address: str,
        settings: dict[int, int] | None = None,
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """In clear text; with a context over TLS."""
        self.socket = socket.create_connection(ports.split(address), DEADLINE_S)
        if context is not None:
            self.socket = context.wrap_socket(self.socket)
        self.encoder = hpack.Encoder()
        self.frames: list[Frame] = []
        self.closed = False
        self._buffer = b""
        self.sent = 0
        self.socket.sendall(PREFACE + SettingsFrame(0, settings=settings or {}).serialize())

    def __enter__(self) -> Attacker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *frames: Frame | bytes) -> bool:
        """Send frames in one write; `False` once the other side has closed."""
        data = b"".join(
            frame if isinstance(frame, bytes) else frame.serialize() for frame in frames
        )
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True
        else:
            self.sent += len(frames)
        return not self.closed

    def request(
        self, stream: int, fields: tuple[tuple[str, str], ...] = GET, *, ends: bool = True
    ) -> Frame:
        """A HEADERS frame."""
        frame = HeadersFrame(stream, self.encoder.encode(fields), flags=["END_HEADERS"])
        if ends:
            frame.flags.add("END_STREAM")
        return frame

    def read(self, wait_s: float = 0.0) -> list[Frame]:
        """Take what has come, waiting so long for the first of it; all frames so far."""
        self.socket.settimeout(max(wait_s, 0.001))
        with contextlib.suppress(TimeoutError):
            while True:
                try:
                    data = self.socket.recv(1 << 18)
                except TimeoutError:
                    raise
                except OSError:
                    data = b""
                if not data:
                    self.closed = True
                    break
                self._buffer += data
                self.socket.settimeout(0.001)
        self.socket.settimeout(DEADLINE_S)
        self._parse()
        return self.frames

    def read_to_close(self, deadline_s: float = DEADLINE_S) -> float:
        """Wait for the end of the connection; return how long it took."""
        began = time.monotonic()
        while not self.closed:
            left = began + deadline_s - time.monotonic()
            assert left > 0, f"still open after {deadline_s} s"
            self.read(min(left, 0.5))
        return time.monotonic() - began

    def go_away(self) -> int | None:
        """The code of the last GOAWAY."""
        codes = [frame.error_code for frame in self.frames if isinstance(frame, GoAwayFrame)]
        return int(codes[-1]) if codes else None

    def resets(self) -> dict[int, int]:
        """The codes of the streams that were reset."""
        return {
            frame.stream_id: int(frame.error_code)
            for frame in self.frames
            if isinstance(frame, RstStreamFrame)
        }

    def _parse(self) -> None:
        while len(self._buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
            if len(self._buffer) < 9 + length:
                return
            frame.parse_body(memoryview(self._buffer[9 : 9 + length]))
            self._buffer = self._buffer[9 + length :]
            self.frames.append(frame)


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of any kind."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


def continuation(stream: int, block: bytes, *, ends: bool = False) -> ContinuationFrame:
    """A CONTINUATION frame."""
    return ContinuationFrame(stream, block, flags=["END_HEADERS"] if ends else [])
