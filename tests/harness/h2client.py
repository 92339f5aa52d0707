"""One HTTP/2 connection in clear text, frame by frame, by the `h2` package.

For what no finished client does: an extended CONNECT (RFC 8441), a stream that is half closed, a
connection that is left in the middle of it. Rule: nothing is sent behind a test's back but the
acknowledgements that the protocol asks for.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType

import h2.config
import h2.connection
import h2.events

from tests.harness import ports

DEADLINE_S = 20.0


class H2Client:
    """Use as a context manager; what arrives is in `bodies` and `statuses`, by stream."""

    def __init__(self, address: str, *, before: bytes = b"") -> None:
        """`before` is sent ahead of the first frame."""
        # The package knows no `:protocol`, and would refuse to send it.
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.socket = socket.create_connection(ports.split(address), DEADLINE_S)
        self.bodies: dict[int, bytes] = {}
        self.statuses: dict[int, int] = {}
        self.heads: dict[int, dict[str, str]] = {}
        # The same, with names that are there several times.
        self.lines: dict[int, list[tuple[str, str]]] = {}
        self.interim: dict[int, list[list[tuple[str, str]]]] = {}
        self.trailers: dict[int, list[tuple[str, str]]] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        # The streams of the DATA frames, one after the other.
        self.order: list[int] = []
        self.socket.sendall(before)
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> H2Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def get(self, host: str, *fields: tuple[str, str], path: str = "/", method: str = "GET") -> int:
        """Ask for a path; return the stream."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)]
        self.h2.send_headers(stream, [*head, *fields], end_stream=True)
        self.flush()
        return stream

    def post(self, host: str, body: bytes, path: str = "/", *fields: tuple[str, str]) -> int:
        """Send a body, reading while the windows want that; return the stream."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", host)]
        self.h2.send_headers(stream, [*head, *fields])
        while body:
            body = body[self.send(stream, body) :]
            if not self.h2.local_flow_control_window(stream):
                self.read(1.0)
        self.end(stream)
        return stream

    def websocket(self, host: str, path: str = "/") -> int:
        """Open a WebSocket; return its stream once it is accepted."""
        stream = self.h2.get_next_available_stream_id()
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", host),
            ("sec-websocket-version", "13"),
        ]
        self.h2.send_headers(stream, fields)
        self.flush()
        self.read_until(lambda: stream in self.statuses)
        return stream

    def send(self, stream: int, data: bytes) -> int:
        """Send as much as the windows allow now; return how much that was."""
        window = self.h2.local_flow_control_window(stream)
        part = data[: min(window, self.h2.max_outbound_frame_size)]
        if part:
            self.h2.send_data(stream, part)
            self.flush()
        return len(part)

    def end(self, stream: int) -> None:
        self.h2.end_stream(stream)
        self.flush()

    def read(self, timeout_s: float) -> bool:
        """Take what has come; False when nothing has within the time."""
        self.socket.settimeout(timeout_s)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        if not data:
            raise ConnectionError("the connection ended")
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                lines = _texts(event.headers)
                head = dict(lines)
                self.heads[event.stream_id] = head
                self.lines[event.stream_id] = lines
                self.statuses[event.stream_id] = int(head[":status"])
            elif isinstance(event, h2.events.InformationalResponseReceived):
                self.interim.setdefault(event.stream_id, []).append(_texts(event.headers))
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[event.stream_id] = _texts(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.order.append(event.stream_id)
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.reset.add(event.stream_id)
        self.flush()
        return True

    def read_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (self.statuses, self.bodies)
            self.read(1.0)


def _texts(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in fields]
