"""T31: bytes of TLS that no ordinary client sends, and protocols agreed on but not spoken."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.harness import ports, tls
from tests.harness.daemon import resident_kib
from tests.harness.tlssite import TlsSite

_RECORD_HEAD = 5
_HEARTBEAT = 24
_CLIENTS = 64
_PARTS = 512


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSite]:
    with TlsSite(tmp_path_factory.mktemp("site"), workers=1) as made:
        made.start(made.files({"shop": made.leaf("www.test")}))
        yield made


class Client:
    """A TLS client whose bytes are put on the wire by hand."""

    def __init__(self, site: TlsSite, *protocols: str) -> None:
        context = tls.trusting(site.authority)
        if protocols:
            context.set_alpn_protocols(protocols)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="www.test")
        self.socket = socket.create_connection(ports.split(site.https), timeout=10)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hello(self) -> bytes:
        """The record with its ClientHello, not sent."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    def handshake(self) -> None:
        """Do what is left of it."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.receive()
            else:
                self.send()
                return

    def receive(self) -> None:
        self.send()
        data = self.socket.recv(65_536)
        if not data:
            self._incoming.write_eof()
        self._incoming.write(data)

    def send(self, data: bytes = b"") -> None:
        if data:
            self.tls.write(data)
        self.socket.sendall(self._outgoing.read())

    def read(self) -> bytes:
        """What comes next, or nothing at its end."""
        while True:
            try:
                return self.tls.read(65_536)
            except ssl.SSLWantReadError:
                self.receive()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""


def _records(message: bytes, size: int) -> bytes:
    """A handshake message in records of so many bytes."""
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(each).to_bytes(2, "big") + each for each in parts)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_client_hello_in_small_records_is_understood(site: TlsSite, size: int) -> None:
    with Client(site) as client:
        client.socket.sendall(_records(client.hello()[_RECORD_HEAD:], size))
        client.handshake()
        client.send(b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n")
        assert client.read().startswith(b"HTTP/1.1 200 ")


def test_a_client_hello_without_end_is_cut_off(site: TlsSite) -> None:
    """Announced with 16 MiB, and sent in whole records: nobody collects it."""
    [pid] = site.worker_pids()
    before = resident_kib(pid)
    first, more = b"\x01\xff\xff\xff".ljust(0x4000, b"\0"), b"\0" * 0x4000
    for _ in range(_CLIENTS):
        cut_off = contextlib.suppress(BrokenPipeError, ConnectionResetError)
        with socket.create_connection(ports.split(site.https), timeout=10) as client, cut_off:
            client.sendall(_records(first + _PARTS * more, len(first)))
            pytest.fail("all of it was taken")
    assert resident_kib(pid) - before < 8 * 1024
    with site.connect() as honest:
        assert honest.get("www.test").body == b"red"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_heartbeat_brings_back_nothing(site: TlsSite, moment: str) -> None:
    """RFC 6520, whose length was once believed: nobody has agreed on it."""
    beat = b"\x01\x40\x00" + b"x"
    record = bytes([_HEARTBEAT, 3, 3]) + len(beat).to_bytes(2, "big") + beat
    with Client(site) as client:
        if moment == "after":
            client.handshake()
        client.socket.sendall(record)
        got = b""
        try:
            while part := client.socket.recv(65_536):
                got += part
        except ConnectionResetError:
            pass
    # Behind the handshake: two session tickets at most, and an alert.
    assert len(got) < 2048
    assert b"x" * 64 not in got


def test_protocols_that_nobody_speaks_are_refused(site: TlsSite) -> None:
    refused = pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol")
    with Client(site, "spdy/3") as client, refused:
        client.handshake()


def test_http1_where_http2_was_agreed_on(site: TlsSite) -> None:
    with Client(site, "h2") as client:
        client.handshake()
        assert client.tls.selected_alpn_protocol() == "h2"
        client.send(b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n")
        got = b""
        while part := client.read():
            got += part
    assert b"HTTP/1.1" not in got
    assert b"red" not in got


def test_http2_where_http1_was_agreed_on(site: TlsSite) -> None:
    with Client(site, "http/1.1") as client:
        client.handshake()
        assert client.tls.selected_alpn_protocol() == "http/1.1"
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        got = b""
        while part := client.read():
            got += part
    assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 ")), got
