"""A backend whose health is up to the test: it answers checks as told, and all else by its name.

It answers each connection in a thread of its own, so that one that is not answered holds up nobody.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.harness import ports

HANGS = 0


class Checked:
    """Listens from the start on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ports.address()
        self.checks = 0
        """How often it was asked."""
        self._status = 200
        self._listening: socket.socket | None = None
        self._silent: list[socket.socket] = []
        self.listen()

    def answer(self, status: int) -> None:
        """Answer checks by a status from now on."""
        self._status = status

    def hang(self) -> None:
        """Answer no check."""
        self._status = HANGS

    def refuse(self) -> None:
        """Take no connection."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()

    def listen(self) -> None:
        """Take connections again."""
        host, port = self.address.rsplit(":", 1)
        listening = socket.create_server((host, int(port)), backlog=128)
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def close(self) -> None:
        self.refuse()
        for each in self._silent:
            each.close()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                threading.Thread(target=self._answer, args=(accepted,), daemon=True).start()

    def _answer(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):
            text = b""
            while b"\r\n\r\n" not in text:
                piece = accepted.recv(4096)
                if not piece:
                    accepted.close()
                    return
                text += piece
            status = 200
            if text.startswith(b"GET /healthz "):
                self.checks += 1
                status = self._status
            if status == HANGS:
                self._silent.append(accepted)
                return
            body = self.name.encode()
            head = (
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            accepted.sendall(head.encode() + body)
            accepted.close()
