"""A backend that records the exact bytes of every connection and answers what it is told.

It reads requests leniently, as the worst backend would, so that a request which the proxy
should have refused is seen and not lost. Tests judge the recorded bytes with `wire`.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import re
import select
import socket
import struct
import termios
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.harness import ports, wire

DEADLINE_S = 20.0
_BLOCK = 1 << 18

Script = Callable[["Exchange"], None]


class BackendConnection:
    """One connection that the proxy opened: the bytes it carried and how it ended."""

    def __init__(self, backend: RawBackend, sock: socket.socket, number: int) -> None:
        self.backend = backend
        self.socket = sock
        self.number = number
        self.received = bytearray()  # exactly what arrived, all of it
        self.unread = bytearray()  # the part that no request has used yet
        self.requests: list[wire.Request] = []
        self.ended = False  # the proxy closed or reset it
        self.was_reset = False
        self.closed = False  # this side closed it
        self.sent = 0
        self.keep_bytes = True

    def fill(self) -> bool:
        """Read once; False when the proxy closed. Raises nothing for a reset."""
        # Waiting first and reading under the lock lets `settle` know that nothing is in between.
        _readable(self.socket, DEADLINE_S * 10)
        with self.backend.changed:
            try:
                data = self.socket.recv(_BLOCK)
            except (ConnectionResetError, BrokenPipeError):
                data, self.was_reset = b"", True
            except OSError:  # closed by this side, from another thread
                data = b""
            if data:
                if self.keep_bytes:
                    self.received += data
                self.unread += data
            else:
                self.ended = True
            self.backend.changed.notify_all()
        return bool(data)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = self.socket.send(view[:_BLOCK])
            self.sent += count
            view = view[count:]

    def close(self) -> None:
        with self.backend.changed:
            self.closed = True
            self.backend.changed.notify_all()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.closed = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def stream(self) -> wire.RequestStream:
        """Judge the recorded bytes strictly; raises wire.Malformed."""
        with self.backend.changed:
            data = bytes(self.received)
        return wire.parse_request_stream(data)


class Exchange:
    """One request on one connection, from its head on, as a script sees it."""

    def __init__(self, connection: BackendConnection, request: wire.Request) -> None:
        self.connection = connection
        self.request = request
        self.backend = connection.backend
        self.body_read = False
        self.ordinal = len(connection.requests)  # 1 for the first request of the connection

    def send(self, data: bytes) -> None:
        self.connection.send(data)

    def send_pieces(self, data: bytes, size: int = 1, pause_s: float = 0.0003) -> None:
        """Send in segments of `size` bytes; the pause only keeps TCP from joining them."""
        for start in range(0, len(data), size):
            self.connection.send(data[start : start + size])
            time.sleep(pause_s)

    def close(self) -> None:
        self.connection.close()

    def reset(self) -> None:
        self.connection.reset()

    def half_close(self) -> None:
        self.connection.half_close()

    def wait_until_delivered(self) -> None:
        """Wait until the proxy's kernel has what was sent: a reset can no longer overtake it."""
        unsent = array.array("i", [1])
        deadline = time.monotonic() + DEADLINE_S
        while unsent[0] and time.monotonic() < deadline:
            fcntl.ioctl(self.connection.socket, termios.TIOCOUTQ, unsent)
            time.sleep(0.001)

    def wait(self, event: threading.Event) -> None:
        """Wait for the test to say go on; the end of the backend counts as that too."""
        deadline = time.monotonic() + DEADLINE_S
        while not event.wait(0.02):
            if self.backend.stopping.is_set() or time.monotonic() > deadline:
                raise Abandoned

    def wait_for_go(self) -> None:
        """Wait until the test sets the backend's `go`."""
        self.wait(self.backend.go)

    def wait_for_end(self) -> None:
        """Read and record until the proxy closes this connection."""
        while self.connection.fill():
            pass

    def read_more(self) -> bool:
        return self.connection.fill()

    def read_body(self) -> bytes:
        """Read the request's body by its framing, leniently; chunked wins over a length."""
        if self.body_read:
            return self.request.body
        self.body_read = True
        codings = b",".join(self.request.all("transfer-encoding")).lower()
        if b"chunked" in codings:
            self._read_chunked()
        elif lengths := self.request.all("content-length"):
            digits = re.search(rb"\d+", lengths[-1])
            self._read_length(int(digits[0]) if digits else 0)
        return self.request.body

    def _read_length(self, length: int) -> None:
        unread = self.connection.unread
        while len(unread) < length:
            if not self.connection.fill():
                raise Abandoned
        self.request.body = bytes(unread[:length])
        self._use(length)

    def _read_chunked(self) -> None:
        reader = wire.ChunkReader()
        try:
            while not reader.done:
                data = bytes(self.connection.unread)
                self._use(len(data))
                reader.feed(data)
                waiting = not reader.done and not self.connection.unread
                if waiting and not self.connection.fill():
                    raise Abandoned
        except wire.Malformed:
            raise Abandoned from None
        self.request.body, self.request.trailers = bytes(reader.body), reader.trailers
        with self.backend.changed:
            self.connection.unread[:0] = reader.rest

    def count_body(self, length: int) -> int:
        """Read a body of known length without keeping its bytes; return how much came."""
        unread = self.connection.unread
        total = len(unread)
        self._use(total)
        block = bytearray(1 << 20)
        while total < length:
            taken = self.connection.socket.recv_into(block)
            if not taken:
                break
            total += taken
        self.body_read = True
        return total

    def count_to_last_chunk(self) -> int:
        """Read a chunked body without keeping or parsing it; return its bytes, framing included."""
        end = b"0\r\n\r\n"
        unread = self.connection.unread
        total, tail = len(unread), bytes(unread[-len(end) :])
        self._use(total)
        block = bytearray(1 << 20)
        while tail[-len(end) :] != end:
            taken = self.connection.socket.recv_into(block)
            if not taken:
                raise Abandoned
            total += taken
            tail = (tail + bytes(block[max(0, taken - len(end)) : taken]))[-len(end) :]
        self.body_read = True
        return total

    def _use(self, length: int) -> None:
        with self.backend.changed:
            del self.connection.unread[:length]


class Abandoned(Exception):
    """The connection or the backend ended while a script was waiting; not a fault."""


def answer(data: bytes) -> Script:
    """A script that reads the whole request and sends these bytes."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(data)

    return script


class RawBackend:
    """Listens on a port of its own from the start; `script` may be replaced at any time."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        host: str = "127.0.0.1",
        path: Path | None = None,
        address: str | None = None,
    ) -> None:
        self.default: Script = script or answer(wire.response())
        self.script = self.default
        self.changed = threading.Condition()
        self.connections: list[BackendConnection] = []
        self.failures: list[str] = []
        self.stopping = threading.Event()
        self.go = threading.Event()
        if path is None:
            again = ports.at_address(address) if address is not None else None
            self._listener = again or ports.listening(host, backlog=1024)
            self.port: int = self._listener.getsockname()[1]
            self.address = ports.of(self._listener)
        else:
            self._listener = ports.at_path(path, backlog=1024)
            self.address = f"unix:{path}"
        self._listener.setblocking(False)
        self._accepted = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> RawBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What tests ask

    @property
    def requests(self) -> list[wire.Request]:
        """Every request whose head was read, of all connections, by connection."""
        with self.changed:
            return [request for c in self.connections for request in c.requests]

    @property
    def last(self) -> wire.Request:
        return self.requests[-1]

    def wait_until(
        self, condition: Callable[[], object], what: str = "", deadline_s: float = DEADLINE_S
    ) -> None:
        """Wait until the condition holds; it is looked at whenever a connection changes."""
        deadline = time.monotonic() + deadline_s
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {deadline_s} s: {what or condition}")
                self.changed.wait(min(left, 0.05))

    def wait_for_requests(self, count: int) -> None:
        self.wait_until(
            lambda: sum(len(c.requests) for c in self.connections) >= count,
            f"{count} requests at the backend",
        )

    def wait_for_ended(self, count: int = 1) -> None:
        """Wait until the proxy has closed so many connections."""
        self.wait_until(
            lambda: sum(c.ended for c in self.connections) >= count,
            f"{count} connections closed by the proxy",
        )

    def settle(self) -> None:
        """Wait until every byte and connection that the kernel already holds is recorded."""

        def settled() -> bool:
            return not _readable(self._listener) and not any(
                _readable(c.socket) for c in self.connections if not c.ended and not c.closed
            )

        self.wait_until(settled, "recorded all bytes that arrived")

    # Life

    def reset(self) -> None:
        """Forget what was recorded, end all connections, go back to the first script."""
        failures, self.failures = self.failures, []
        with self.changed, contextlib.suppress(AssertionError):
            # One that still waits to be accepted would be taken for the next test's.
            self.wait_until(lambda: not _readable(self._listener), deadline_s=1)
        with self.changed:
            connections, self.connections = self.connections, []
        self.stopping.set()
        for connection in connections:
            connection.half_close()
        # The proxy has let go of them all before the next test asks for one.
        with self.changed, contextlib.suppress(AssertionError):
            self.wait_until(lambda: all(c.ended or c.closed for c in connections), deadline_s=1)
        for connection in connections:
            connection.close()
        self.script = self.default
        self.stopping = threading.Event()
        self.go = threading.Event()
        assert not failures, "\n".join(failures)

    def stop(self) -> None:
        self._stopped = True
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()
        self.reset()
        self.stopping.set()

    def _accept(self) -> None:
        while True:
            # Who waits at a Unix socket does not hear that it is shut down.
            is_unix = self._listener.family == socket.AF_UNIX
            _readable(self._listener, 0.05 if is_unix else DEADLINE_S)
            with self.changed:
                try:
                    sock, _ = self._listener.accept()
                except BlockingIOError:
                    if self._stopped:
                        return
                    continue
                except OSError:
                    return
                sock.setblocking(True)
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = BackendConnection(self, sock, self._accepted)
                self._accepted += 1
                self.connections.append(connection)
                self.changed.notify_all()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: BackendConnection) -> None:
        try:
            while not connection.closed:
                request = self._read_head(connection)
                if request is None:
                    break
                with self.changed:
                    connection.requests.append(request)
                    self.changed.notify_all()
                exchange = Exchange(connection, request)
                self.script(exchange)
                if not connection.closed:
                    exchange.read_body()
        except (Abandoned, OSError):
            pass
        except Exception:  # noqa: BLE001  (whatever a script does wrong is the test's failure)
            self.failures.append(traceback.format_exc())
        while not connection.closed and connection.fill():
            pass
        with self.changed:
            connection.ended = connection.ended or not connection.closed
            self.changed.notify_all()
        connection.socket.close()

    def _read_head(self, connection: BackendConnection) -> wire.Request | None:
        """Read a head as a careless backend would: any line end, any field."""
        while True:
            data = bytes(connection.unread)
            match = re.search(rb"\r?\n\r?\n", data)
            if match:
                break
            if not connection.fill():
                return None
        with self.changed:
            del connection.unread[: match.end()]
        start, *lines = re.split(rb"\r?\n", data[: match.start()].lstrip(b"\r\n"))
        parts = start.split(b" ")
        fields = []
        for line in lines:
            name, _, value = line.partition(b":")
            fields.append((name.strip(), value.strip()))
        return wire.Request(
            fields,
            method=parts[0],
            target=parts[1] if len(parts) > 1 else b"",
            version=parts[-1],
        )


def _readable(sock: socket.socket, timeout_s: float = 0) -> bool:
    """Say whether a read (or an accept) would return at once; an ended stream counts too."""
    poll = select.poll()
    try:
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    except (OSError, ValueError):
        return False
