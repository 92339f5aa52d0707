"""A client that sends exact bytes and reads strictly, with a deadline on every operation.

Used by the HTTP and security suites wherever a well-behaved client library would tidy up.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterable

from tests.harness import ports, wire

DEADLINE_S = 20.0
_BLOCK = 1 << 20


class Truncated(Exception):
    """The connection ended inside a message; `partial` is what had been read of its body."""

    def __init__(self, response: wire.Response | None, partial: bytes) -> None:
        super().__init__(f"connection ended inside a message: {response} {partial[:200]!r}")
        self.response = response
        self.partial = partial


class Connection:
    """One TCP connection to the proxy."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        host, port = ports.split(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE_S)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_port: int = self.socket.getsockname()[1]
        self.interim: list[wire.Response] = []
        self._buffer = bytearray()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Sending

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_pieces(self, pieces: Iterable[bytes], pause_s: float = 0.0005) -> None:
        """Send each piece as a segment of its own; the pause only keeps TCP from joining them."""
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(pause_s)

    def send_byte_by_byte(self, data: bytes, pause_s: float = 0.0003) -> None:
        self.send_pieces((data[i : i + 1] for i in range(len(data))), pause_s)

    def send_tolerating_close(self, data: bytes) -> bool:
        """Send what the peer may refuse to read to the end; False when it closed before."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def get(self, host: str, path: str = "/", *fields: str, method: str = "GET") -> wire.Response:
        """Send a request without a body and return its final response."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        self.send("\r\n".join(lines).encode("latin-1"))
        return self.read_response(method)

    def post(self, host: str, body: bytes, path: str = "/", *fields: str) -> wire.Response:
        """Send a request with a body of known length and return its final response."""
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *fields]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self.read_response("POST")

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close so that the peer gets a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    # Reading

    def fill(self) -> bool:
        """Read once into the buffer; False at the end of the stream."""
        data = self.socket.recv(_BLOCK)
        self._buffer += data
        return bool(data)

    def read_response(self, method: str = "GET") -> wire.Response:
        """Return the next final response; the interim ones before it go to `self.interim`."""
        while True:
            response = self.read_any(method)
            if response.status >= 200 or response.status == 101:
                return response
            self.interim.append(response)

    def read_any(self, method: str = "GET") -> wire.Response:
        """Return the next response, interim or final, with its body."""
        response = self.read_head()
        kind, length = wire.response_framing(response, method.encode())
        response.framing = kind
        if kind == "length":
            response.body = self._read_exactly(length, response)
        elif kind == "chunked":
            self._read_chunked(response)
        elif kind == "close":
            while self._fill_or_reset(response):
                pass
            response.body = self.take_buffer()
        return response

    def read_head(self) -> wire.Response:
        while (split := wire.split_head(bytes(self._buffer))) is None:
            if not self._fill_or_reset(None):
                raise Truncated(None, bytes(self._buffer))
        head, rest = split
        self._buffer = bytearray(rest)
        return wire.parse_response_head(head)

    def _fill_or_reset(self, response: wire.Response | None) -> bool:
        try:
            return self.fill()
        except ConnectionResetError:
            raise Truncated(response, bytes(self._buffer)) from None

    def _read_exactly(self, length: int, response: wire.Response | None = None) -> bytes:
        while len(self._buffer) < length:
            if not self._fill_or_reset(response):
                raise Truncated(response, bytes(self._buffer))
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _read_chunked(self, response: wire.Response) -> None:
        reader = wire.ChunkReader()
        reader.feed(self.take_buffer())
        while not reader.done:
            if not self._fill_or_reset(response):
                raise Truncated(response, bytes(reader.body))
            reader.feed(self.take_buffer())
        self._buffer = bytearray(reader.rest)
        response.body, response.trailers = bytes(reader.body), reader.trailers

    def read_exactly(self, length: int) -> bytes:
        return self._read_exactly(length)

    def take_buffer(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def count_to_close(self) -> int:
        """Read and drop everything until the peer closes; return how much it was."""
        total = len(self.take_buffer())
        block = bytearray(_BLOCK)
        while taken := self.socket.recv_into(block):
            total += taken
        return total

    def read_to_close(self) -> bytes:
        """Return everything until the peer closes or resets the connection."""
        try:
            while self.fill():
                pass
        except ConnectionResetError:
            pass
        return self.take_buffer()

    def expect_closed(self, deadline_s: float = DEADLINE_S) -> None:
        """Fail unless the peer closes now, without another byte."""
        self.socket.settimeout(deadline_s)
        try:
            rest = self.read_to_close()
        except TimeoutError:
            raise AssertionError(
                f"the connection is still open {deadline_s} s later; "
                f"unread: {bytes(self._buffer[:300])!r}"
            ) from None
        finally:
            self.socket.settimeout(DEADLINE_S)
        assert rest == b"", f"bytes after the last response: {rest[:500]!r}"

    def has_bytes(self) -> bool:
        """Say whether something (or the end) has arrived, without waiting for it."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def is_open(self) -> bool:
        """Say whether the peer has closed, without waiting and without losing bytes."""
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(DEADLINE_S)
