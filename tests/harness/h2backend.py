"""An HTTP/2 backend that does what a test's script says, by the `h2` package.

Each connection has a thread that reads, and each request a thread that runs the script. Rule:
windows are opened only when the script reads, and nothing else is sent behind its back but what the
protocol asks for.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hyperframe.frame

from tests.harness import ports

DEADLINE_S = 20.0
Fields = list[tuple[str, str]]


class Request:
    """One stream, as its script sees it."""

    def __init__(self, peer: Peer, stream: int, fields: Fields) -> None:
        self.peer, self.stream, self.fields = peer, stream, fields
        self.body = bytearray()
        self.unread = 0
        # How much of the response's body.
        self.sent = 0
        self.trailers: Fields = []
        self.ended = False
        self.reset: int | None = None

    def get(self, name: str) -> str | None:
        """The value of a field, `None` without it."""
        return next((value for field, value in self.fields if field == name), None)

    @property
    def path(self) -> str:
        return self.get(":path") or ""

    @property
    def is_over(self) -> bool:
        """Nothing more comes: it has ended, was reset, or its connection is lost."""
        return self.ended or self.reset is not None or self.peer.is_lost

    def read(self) -> bytes:
        """Wait for the end of the request; return its body."""
        self.wait(lambda: self.is_over)
        return bytes(self.body)

    def read_some(self, length: int) -> bytes:
        """Wait until so much of the body has come."""
        self._wait_for(length)
        return bytes(self.body)

    def parts(self) -> Iterator[bytes]:
        """The body as it comes, until nothing more does."""
        seen = 0
        while True:
            self._wait_for(seen + 1)
            part = bytes(self.body[seen:])
            if not part:
                return
            seen += len(part)
            yield part

    def _wait_for(self, length: int) -> None:
        self.wait(lambda: len(self.body) >= length or self.is_over)

    def wait(self, condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        """Wait, opening the window for what has come meanwhile."""

        def done() -> bool:
            self.accept()
            return condition() or self.peer.is_lost

        with self.peer.changed:
            if not self.peer.changed.wait_for(done, deadline_s):
                raise AssertionError(f"stream {self.stream}: waited in vain")

    def accept(self) -> None:
        """Open the window for what has come."""
        with self.peer.changed:
            if self.unread and not self.peer.is_lost:
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    self.peer.h2.acknowledge_received_data(self.unread, self.stream)
                self.unread = 0
                self.peer.flush()

    def head(self, status: int = 200, *fields: tuple[str, str], ends: bool = False) -> None:
        head = [(":status", str(status)), *fields]
        self.peer.do(lambda it: it.send_headers(self.stream, head, end_stream=ends))

    def send(self, data: bytes, *, ends: bool = False) -> None:
        """Send body bytes, as the windows allow."""
        at = 0
        while True:
            with self.peer.changed:
                if not self.peer.changed.wait_for(
                    lambda: self.peer.is_lost or self.reset is not None or self._window() > 0,
                    DEADLINE_S,
                ):
                    raise AssertionError(f"stream {self.stream}: the window stays shut")
                if self.peer.is_lost or self.reset is not None:
                    return
                part = data[at : at + self._window()]
                at += len(part)
                is_last = at == len(data)
                self.peer.h2.send_data(self.stream, part, end_stream=ends and is_last)
                self.peer.flush()
                self.sent += len(part)
            if is_last:
                return

    def window(self) -> int:
        """Bytes of the response that we let it send now."""
        with self.peer.changed:
            return int(self.peer.h2.local_flow_control_window(self.stream))

    def _window(self) -> int:
        state = self.peer.h2
        return min(state.local_flow_control_window(self.stream), state.max_outbound_frame_size)

    def end(self, *trailers: tuple[str, str]) -> None:
        """End the response, by trailers if there are some."""
        if trailers:
            self.peer.do(lambda it: it.send_headers(self.stream, list(trailers), end_stream=True))
        else:
            self.peer.do(lambda it: it.end_stream(self.stream))

    def answer(self, body: bytes = b"", status: int = 200, *fields: tuple[str, str]) -> None:
        """A whole response, with its length."""
        self.head(status, ("content-length", str(len(body))), *fields, ends=not body)
        if body:
            self.send(body, ends=True)

    def give_up(self, code: h2.errors.ErrorCodes) -> None:
        self.peer.do(lambda it: it.reset_stream(self.stream, code))


class Peer:
    """One connection."""

    def __init__(self, number: int, plain: socket.socket, settings: dict[int, int]) -> None:
        self.number, self.socket = number, plain
        self.changed = threading.Condition(threading.RLock())
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100, **settings},
        )
        self.requests: dict[int, Request] = {}
        self.is_lost = False
        self.is_deaf = threading.Event()
        self.pings = 0

    def do(self, action: Callable[[h2.connection.H2Connection], Any]) -> None:
        with self.changed:
            if not self.is_lost:
                with contextlib.suppress(h2.exceptions.StreamClosedError):
                    action(self.h2)
                self.flush()

    def flush(self) -> None:
        with self.changed, contextlib.suppress(OSError):
            self.socket.sendall(self.h2.data_to_send())

    def go_away(self, last: int, code: int = 0) -> None:
        """Say GOAWAY and go on: the package would take it for the end of everything."""
        frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=last, error_code=code)
        with self.changed:
            self.flush()
            self.socket.sendall(frame.serialize())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class H2Backend:
    """Use as a context manager. `script` is called for each request, by default with an answer."""

    def __init__(
        self,
        script: Callable[[Request], None] | None = None,
        *,
        context: ssl.SSLContext | None = None,
        settings: dict[int, int] | None = None,
        greets: bool = True,
        path: Path | None = None,
    ) -> None:
        self.script = script or (lambda request: request.answer(request.read() or b"h2"))
        self.context, self.settings, self.greets = context, settings or {}, greets
        if path is None:
            self.listening = ports.listening(backlog=512)
            self.address = ports.of(self.listening)
        else:
            self.listening = ports.at_path(path, backlog=512)
            self.address = f"unix:{path}"
        self.peers: list[Peer] = []
        self.seen: list[Request] = []
        self.errors: list[str] = []
        self._scripts: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> H2Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening and close every connection; every script has to end with its own.

        One that does not would take time from all tests that follow.
        """
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for peer in self.peers:
            peer.close()
        for script in self._scripts:
            script.join(DEADLINE_S)
            assert not script.is_alive(), f"the script of {script.name} goes on"

    @property
    def alive(self) -> list[Peer]:
        return [peer for peer in self.peers if not peer.is_lost]

    def wait_for(self, count: int) -> list[Request]:
        """Wait until so many requests have come."""
        deadline = time.monotonic() + DEADLINE_S
        while len(self.seen) < count:
            assert time.monotonic() < deadline, f"{len(self.seen)} requests of {count}"
            time.sleep(0.005)
        return self.seen

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[plain], daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        if plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is not None:
            try:
                plain = self.context.wrap_socket(plain, server_side=True)
            except OSError as error:
                self.errors.append(str(error))
                return
        peer = Peer(len(self.peers), plain, self.settings)
        self.peers.append(peer)
        if self.greets:
            peer.do(lambda it: it.initiate_connection())
        try:
            while data := plain.recv(65536):
                while peer.is_deaf.is_set():
                    time.sleep(0.01)
                with peer.changed:
                    events = peer.h2.receive_data(data)
                    self._take(peer, events)
                    peer.flush()
                    peer.changed.notify_all()
        except (OSError, h2.exceptions.ProtocolError) as error:
            self.errors.append(repr(error))
        finally:
            with peer.changed:
                peer.flush()
                peer.is_lost = True
                peer.changed.notify_all()
            plain.close()

    def _take(self, peer: Peer, events: Iterable[h2.events.Event]) -> None:
        for event in events:
            match event:
                case h2.events.RequestReceived(stream_id=stream, headers=fields):
                    request = Request(peer, stream, [(str(a), str(b)) for a, b in fields])
                    peer.requests[stream] = request
                    self.seen.append(request)
                    script = threading.Thread(
                        target=self._run, args=[request], name=request.path, daemon=True
                    )
                    self._scripts.append(script)
                    script.start()
                case h2.events.DataReceived(stream_id=stream, data=data):
                    peer.requests[stream].body += data
                    peer.requests[stream].unread += event.flow_controlled_length
                case h2.events.TrailersReceived(stream_id=stream, headers=fields):
                    peer.requests[stream].trailers = [(str(a), str(b)) for a, b in fields]
                case h2.events.StreamEnded(stream_id=stream):
                    peer.requests[stream].ended = True
                case h2.events.StreamReset(stream_id=stream, error_code=code):
                    peer.requests[stream].reset = int(code)
                case h2.events.PingReceived():
                    peer.pings += 1
                case _:
                    pass

    def _run(self, request: Request) -> None:
        try:
            self.script(request)
        except (AssertionError, h2.exceptions.ProtocolError, OSError) as error:
            self.errors.append(f"{request.path}: {error!r}")
