"""T24: the PROXY protocol from load balancers, which have to speak it, and from everybody else."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import pki, ports, processes, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.metrics import scrape, wait_for
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo

HURRIED_S = 0.7
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
BLOCK = (
    SIGNATURE
    + b"\x21\x11"
    + struct.pack(
        "!H4s4sHH7s",
        19,
        socket.inet_aton("192.0.2.8"),
        socket.inet_aton("198.51.100.1"),
        56325,
        443,
        b"\x03\x00\x04\x01\x02\x03\x04",
    )
)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


class Balanced:
    """A daemon behind load balancers: one plain listener and one over TLS, another without any."""

    def __init__(self, directory: Path) -> None:
        self.backend = RawBackend()
        self.plain, self.secure, self.direct, self.admin = (ports.address() for _ in range(4))
        self.pair = pki.make("shop.test")
        self.daemon = Kakehi(Repo(directory), workers=1)
        told = {"proxy_protocol": ["127.0.0.1/32"], "timeouts": {"request_head": "700ms"}}
        self.daemon.repo.commit(
            {
                "tls/shop.crt": self.pair.chain.decode(),
                "tls/shop.key": self.pair.key.decode(),
                "kakehi.yaml": {
                    "settings": {"access_log": str(self.daemon.access_log), "admin": self.admin},
                    "listeners": {
                        "plain": {"address": self.plain, **told},
                        "secure": {"address": self.secure, "protocol": "https", **told},
                        "direct": {"address": self.direct, "proxy_protocol": ["192.0.2.0/24"]},
                    },
                    "certificates": {
                        "shop": {"certificate": "tls/shop.crt", "private_key": "tls/shop.key"}
                    },
                    "clusters": {"shop": {"backends": {"raw": {"address": self.backend.address}}}},
                    "frontends": {
                        "all": {"listeners": ["plain", "secure", "direct"], "cluster": "shop"}
                    },
                },
            }
        )
        self.daemon.start()

    def errors(self) -> float:
        return scrape(self.admin)["kakehi_proxy_protocol_errors_total"]


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    made = Balanced(tmp_path_factory.mktemp("balanced"))
    yield made
    made.daemon.stop()
    made.backend.stop()


@pytest.mark.parametrize(
    ("preamble", "client"),
    [
        (LINE, b"192.0.2.7"),
        (BLOCK, b"192.0.2.8"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", b"2001:db8::7"),
        (b"PROXY UNKNOWN whatever\r\n", b"127.0.0.1"),
        (LOCAL, b"127.0.0.1"),
    ],
    ids=["line", "block", "ipv6", "unknown", "local"],
)
def test_the_client_is_whom_the_load_balancer_says(
    balanced: Balanced, preamble: bytes, client: bytes
) -> None:
    with rawclient.Connection(balanced.plain) as connection:
        connection.send(preamble)
        assert connection.get("shop.test").status == 200
        assert balanced.backend.last.get("x-forwarded-for") == client
        # It is said once, and holds for every request.
        assert connection.get("shop.test").status == 200
        assert balanced.backend.last.get("x-forwarded-for") == client


@pytest.mark.parametrize("preamble", [LINE, BLOCK], ids=["line", "block"])
def test_it_may_come_in_any_pieces(balanced: Balanced, preamble: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
    with rawclient.Connection(balanced.plain) as connection:
        connection.send_byte_by_byte(preamble + head)
        assert connection.read_response().status == 200
    with rawclient.Connection(balanced.plain) as connection:
        connection.send(preamble + head + head)
        assert [connection.read_response().status for _ in range(2)] == [200, 200]
    told = balanced.backend.last.get("x-forwarded-for") or b""
    assert told.startswith(b"192.0.2.")


def test_it_comes_before_the_handshake(balanced: Balanced) -> None:
    context = ssl.create_default_context(cadata=balanced.pair.pem.decode())
    plain = socket.create_connection(ports.split(balanced.secure), 10)
    plain.sendall(BLOCK)
    with context.wrap_socket(plain, server_hostname="shop.test") as secure:
        secure.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        assert secure.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert balanced.backend.last.get("x-forwarded-for") == b"192.0.2.8"


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY UNKNOWN " + b"x" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
        SIGNATURE + b"\x21\x11\xff\xff",
        LINE[:-1] + LINE,
    ],
)
def test_a_load_balancer_that_says_it_wrongly_is_not_served(
    balanced: Balanced, junk: bytes
) -> None:
    before, served = balanced.errors(), len(balanced.backend.requests)
    with rawclient.Connection(balanced.plain) as connection:
        connection.send_tolerating_close(junk + b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert connection.read_to_close() == b""
    assert balanced.errors() == before + 1
    assert len(balanced.backend.requests) == served


@pytest.mark.parametrize("part", [b"", LINE[:-1], BLOCK[:-1]], ids=["nothing", "line", "block"])
def test_half_a_preamble_has_its_time(balanced: Balanced, part: bytes) -> None:
    before = balanced.errors()
    with rawclient.Connection(balanced.plain) as connection:
        connection.send(part)
        since = time.monotonic()
        assert connection.read_to_close() == b""
        assert time.monotonic() - since > HURRIED_S * 0.9
    # One that goes before it has said all is not waited for, and one that says nothing is no error.
    with rawclient.Connection(balanced.plain) as connection:
        connection.send(part)
        connection.half_close()
        assert connection.read_to_close() == b""
    errors = 2 if part else 1
    wait_for(balanced.admin, lambda found: found["kakehi_worker_connections"] == 0)
    assert balanced.errors() == before + errors


@pytest.mark.parametrize("preamble", [LINE, BLOCK], ids=["line", "block"])
def test_a_stranger_cannot_say_who_it_is(balanced: Balanced, preamble: bytes) -> None:
    served = len(balanced.backend.requests)
    with rawclient.Connection(balanced.direct) as connection:
        connection.send(preamble + b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert connection.read_response().status == 400
    assert len(balanced.backend.requests) == served
    with rawclient.Connection(balanced.direct) as connection:
        assert connection.get("shop.test").status == 200
    assert balanced.backend.last.get("x-forwarded-for") == b"127.0.0.1"


def test_curl_and_haproxy_are_understood(balanced: Balanced, tmp_path: Path) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--haproxy-protocol", f"http://{balanced.plain}/"],
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == b""
    front = ports.address()
    (tmp_path / "haproxy.cfg").write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n"
        f"listen all\n bind {front}\n server kakehi {balanced.secure} send-proxy-v2\n"
    )
    haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")])
    try:
        host, port = ports.split(front)
        processes.wait_until(lambda: _accepts(host, port), "haproxy accepts")
        done = subprocess.run(
            ["curl", "-sSk", "--resolve", f"shop.test:{port}:{host}", f"https://shop.test:{port}/"],
            capture_output=True,
            check=True,
            timeout=20,
        )
        assert balanced.backend.last.get("x-forwarded-proto") == b"https"
    finally:
        haproxy.terminate()
        haproxy.wait(10)


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True
