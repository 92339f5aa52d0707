"""One measurement: TLS 1.3 handshakes one after the other, and the CPU time that a proxy spent.

A handshake ends when both sides are done: the client sends its Finished and the end of its stream,
and reads to the end of the proxy's, so that nothing of it falls into the next one's account. A
process of its own makes them, `python -m bench.side.handshakes`. What it can make a second is no
limit of a proxy; the proxies are compared by their CPU time.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.measuring.accounting import cpu_ns, pinned

_DEADLINE_S = 10.0
_SNI = "shop.example.com"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one proxy did in one round."""

    handshakes_per_s: float
    cpu_us: float
    errors: int

    @property
    def per_cpu_s(self) -> float:
        """How many a core makes that does nothing else."""
        return 1e6 / self.cpu_us

    def to_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return {**asdict(self), "per_cpu_s": self.per_cpu_s}


def measure(port: int, pids: Sequence[int], *, resumed: bool, seconds: int, core: int) -> Sample:
    """Make handshakes from `core` and account for them."""
    how = "resumed" if resumed else "new"
    command = [sys.executable, "-m", "bench.side.handshakes", str(port), how, str(seconds)]
    with (
        pinned(core),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        # The client says when it has its ticket: only what follows counts.
        if process.stdout.readline() != "ready\n":
            raise SystemExit("bench: the handshakes did not begin")
        before = cpu_ns(pids)
        process.stdin.write("go\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline())
        spent_ns = cpu_ns(pids) - before
    handshakes = max(found["handshakes"], 1)
    return Sample(
        handshakes_per_s=found["handshakes"] / found["seconds"],
        cpu_us=spent_ns / 1000 / handshakes,
        errors=found["errors"],
    )


def agreed(port: int) -> str:
    """Version and suite that a client like the one of the measurements gets."""
    with _connect(port, _context(), None) as connection:
        cipher = connection.cipher()
        assert cipher is not None
        return f"{connection.version()} {cipher[0]}"


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The signature is verified; the chain is nobody's that the system trusts.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connect(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=_DEADLINE_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname=_SNI, session=session)


def _ticket(port: int, context: ssl.SSLContext) -> ssl.SSLSession:
    """The session of one connection; its ticket comes along with the answer."""
    with _connect(port, context, None) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
        connection.recv(65536)
        session = connection.session
    if session is None or not session.has_ticket:
        raise SystemExit("bench: no ticket came")
    return session


def _handshake(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    """Whether it was as it should be."""
    with _connect(port, context, session) as connection:
        right = connection.session_reused is (session is not None)
        connection.shutdown(socket.SHUT_WR)
        # From here on the socket is read as it is: tickets, and then the end.
        plain = socket.socket(fileno=connection.detach())
    with plain, contextlib.suppress(ConnectionResetError):
        plain.settimeout(_DEADLINE_S)
        while plain.recv(65536):
            pass
    return right


def _main(port: int, how: str, seconds: float) -> None:
    context = _context()
    session = _ticket(port, context) if how == "resumed" else None
    _handshake(port, context, session)
    print("ready", flush=True)
    sys.stdin.readline()
    handshakes = errors = 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        try:
            right = _handshake(port, context, session)
        except OSError:
            right = False
        handshakes += right
        errors += not right
    print(json.dumps({"handshakes": handshakes, "errors": errors, "seconds": now - began}))


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
