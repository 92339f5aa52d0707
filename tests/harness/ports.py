"""Free TCP ports for the processes that a test starts; used by the daemon, nginx and test modules.

A port is found by binding to 0, and is never given out twice in one session.
"""

from __future__ import annotations

import socket
import threading

_GIVEN: set[int] = set()
_LOCK = threading.Lock()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on now and that no other test was given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with _LOCK:
        while True:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((host, 0))
                port: int = probe.getsockname()[1]
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def address(host: str = "127.0.0.1") -> str:
    """Return a free address in the form that the configuration uses, IPv6 in brackets."""
    port = free_port(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Split `127.0.0.1:80` or `[::1]:80` into what `socket.connect` takes."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Refusing:
    """An address that refuses connections: bound, so that nobody else gets it, not listening."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


class Unanswering:
    """An address where connecting never completes: the queue is full, so SYNs are dropped."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(0)
        port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._fillers: list[socket.socket] = []
        # Linux holds backlog + 1 connections; the rest stay half-open and keep it full.
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self._fillers.append(filler)

    def close(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._socket.close()
