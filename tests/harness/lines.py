"""A server that speaks first, and answers line by line: for what is no HTTP."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading

from tests.harness import ports


class _Talk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.opened.append(self.connection)
        with contextlib.suppress(OSError):
            self.wfile.write(f"{self.server.greeting} ready\n".encode())
            for line in self.rfile:
                self.wfile.write(self.server.greeting.encode() + b" heard " + line)
            # All that was said has been heard, and there is something left to say.
            self.wfile.write(b"goodbye\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: str, greeting: str) -> None:
        host, _, port = address.rpartition(":")
        self.greeting = greeting
        self.opened: list[socket.socket] = []
        super().__init__((host, int(port)), _Talk)


class LineServer:
    """Use as a context manager; `name` begins each of its lines."""

    def __init__(self, name: str, address: str = "") -> None:
        self.address = address or ports.address()
        self._server = _Server(self.address, name)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def count(self) -> int:
        """How many connections there have been."""
        return len(self._server.opened)

    def __enter__(self) -> LineServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Accept no more; whoever is being served stays."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class LineClient:
    """One connection to such a server."""

    def __init__(self, address: str, before: bytes = b"") -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.sendall(before)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> LineClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End both directions."""
        self._file.close()
        self.socket.close()

    def hear(self) -> str:
        """The next line, "" at the end."""
        return self._file.readline().decode().removesuffix("\n")

    def say(self, line: str) -> str:
        """Say a line, and return what is answered."""
        self.socket.sendall(line.encode() + b"\n")
        return self.hear()

    def end(self) -> list[str]:
        """Say that nothing more comes; return all that is still said."""
        self.socket.shutdown(socket.SHUT_WR)
        return self._file.read().decode().splitlines()

    def is_ended(self) -> bool:
        """Whether the connection ends, in whichever way, without a byte."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True


def is_turned_away(address: str, before: bytes = b"") -> bool:
    """Whether a connection there ends without a byte; it may end before it is known to be there."""
    try:
        with LineClient(address, before) as client:
            return client.is_ended()
    except ConnectionError:
        return True
