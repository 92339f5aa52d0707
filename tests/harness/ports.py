"""Free TCP ports for the processes that a test starts; used by the daemon, nginx and test modules.

Ports lie below the range that the kernel takes for outgoing connections, in blocks of which each
test session locks its own: neither a client nor another session takes a port between the moment
that it is given out and the moment that the process under test binds it. None is given out twice:
whoever still asks one for a backend that is gone reaches nobody. So no test lets the kernel choose.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_FIRST_PORT = 11_000
_BLOCK_PORTS = 500
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOCK = threading.Lock()


def _blocks() -> Iterator[range]:
    """The blocks that this session gets a lock on, which it keeps until it ends."""
    end = int(_EPHEMERAL.read_text().split()[0])
    for first in range(_FIRST_PORT, end - _BLOCK_PORTS, _BLOCK_PORTS):
        path = Path(tempfile.gettempdir(), f"kakehi-test-ports-{first}.lock")
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        yield range(first, first + _BLOCK_PORTS)
    raise RuntimeError("no port is left for tests")


def _ports() -> Iterator[int]:
    for block in _blocks():
        yield from block


_PORTS = _ports()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on now and that no other test was given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with _LOCK:
        while True:
            port = next(_PORTS)
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # As a server binds: connections of a former session in TIME_WAIT are no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError:
                    continue
            return port


def address(host: str = "127.0.0.1") -> str:
    """Return a free address in the form that the configuration uses, IPv6 in brackets."""
    port = free_port(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bound(host: str = "127.0.0.1", *, shared: bool = False) -> socket.socket:
    """Return a socket that has a free port, and does not listen; `shared`: by SO_REUSEPORT."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Connections of a former session in TIME_WAIT are no obstacle.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    made.bind((host, free_port(host)))
    return made


def at_address(address: str) -> socket.socket:
    """Return a socket that listens where nobody does any more, or not yet."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(split(address))
    made.listen(1024)
    return made


def at_path(path: Path, backlog: int = 128) -> socket.socket:
    """Return a Unix socket that listens at a path."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(backlog)
    return made


def listening(
    host: str = "127.0.0.1", backlog: int = 128, *, shared: bool = False
) -> socket.socket:
    """Return a socket that listens on a free port: a backend, or whoever has what others want."""
    made = bound(host, shared=shared)
    made.listen(backlog)
    return made


def of(opened: socket.socket) -> str:
    """Return the address of a socket in the form that the configuration uses."""
    host, port = opened.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Split `127.0.0.1:80` or `[::1]:80` into what `socket.connect` takes."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Refusing:
    """An address that refuses connections: bound, so that nobody else gets it, not listening."""

    def __init__(self) -> None:
        self._socket = bound()
        self.address = of(self._socket)

    def close(self) -> None:
        self._socket.close()


class Unanswering:
    """An address where connecting never completes: the queue is full, so SYNs are dropped."""

    def __init__(self) -> None:
        self._socket = listening(backlog=0)
        self.address = of(self._socket)
        self._fillers: list[socket.socket] = []
        # Linux holds backlog + 1 connections; the rest stay half-open and keep it full.
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(split(self.address))
            self._fillers.append(filler)

    def close(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._socket.close()
