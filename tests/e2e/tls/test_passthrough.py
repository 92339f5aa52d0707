"""TLS that is passed on unread, beside TLS that ends here, on one port."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki, ports, processes, rawclient, tls
from tests.harness.tlssite import TlsSite, pem_files

PAYLOAD = os.urandom(2 << 20)


class Echo:
    """A TLS server with a certificate of its own that sends back what it gets, then its end."""

    def __init__(self, pair: pki.Pair, directory: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chain, key = directory / "echo.crt", directory / "echo.key"
        chain.write_bytes(pair.chain)
        key.write_bytes(pair.key)
        self.context.load_cert_chain(chain, key)
        self.socket = ports.listening(backlog=128)
        self.address = ports.of(self.socket)
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self.context.wrap_socket(plain, server_side=True) as secure:
                while data := secure.recv(65536):
                    secure.sendall(data)
                secure.unwrap()
        except OSError:
            pass

    def stop(self) -> None:
        self.socket.close()


class Passing(TlsSite):
    """`www.test` ends here, `mail.test` and `*.wide.test` at the echo server."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.pair, self.inner = self.leaf("www.test", "own.wide.test"), self.leaf("mail.test")
        self.echo = Echo(self.inner, directory)
        self.repo.commit(self.passing())
        self.daemon.start()

    def passing(self, **more: Any) -> dict[str, Any]:
        files = self.files(
            {"shop": self.pair}, frontends={"www": "main"}, policy={"default_certificate": "shop"}
        )
        document: Any = files["kakehi.yaml"]
        document["clusters"]["mail"] = {
            "backends": {"echo": {"address": self.echo.address}},
            **more,
        }
        passed = {"listeners": ["secure"], "cluster": "mail", "passthrough": True}
        document["frontends"] |= {
            "mail": {"hostname": "mail.test", **passed},
            "wide": {"hostname": "*.wide.test", **passed},
            "own": {"hostname": "own.wide.test", "listeners": ["secure"], "cluster": "main"},
        }
        return files

    def __exit__(self, kind: object, *rest: object) -> None:
        self.echo.stop()
        super().__exit__(kind, *rest)


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passing]:
    with Passing(tmp_path_factory.mktemp("passing")) as made:
        yield made


def echoes(connection: tls.TlsConnection, data: bytes = b"hello") -> bool:
    connection.send(data)
    return connection.read_exactly(len(data)) == data


def test_the_name_decides_whose_handshake_it_is(passing: Passing) -> None:
    with passing.connect("mail.test") as connection:
        assert connection.shown == passing.inner.der
        assert echoes(connection)
    with passing.connect("www.test") as connection:
        assert connection.shown == passing.pair.der
        assert connection.get("www.test").body == b"red"
    unchecked = tls.trusting(passing.authority, check_hostname=False)
    expected = {
        "any.wide.test": passing.inner.der,
        # The more specific hostname wins, whichever way it leads.
        "own.wide.test": passing.pair.der,
        "MAIL.test": passing.inner.der,
        "other.test": passing.pair.der,
        None: passing.pair.der,
    }
    for name, shown in expected.items():
        assert passing.shown(name, unchecked) == shown, name


def test_a_request_that_came_by_the_wrong_connection_is_sent_to_another(passing: Passing) -> None:
    """A browser takes any connection whose certificate has the name (RFC 9113 §9.1.1)."""
    with passing.connect("www.test") as connection:
        for host in ("mail.test", "any.wide.test", "MAIL.test:443"):
            assert connection.get(host).status == 421, host
        assert connection.get("own.wide.test").status == 200
        assert connection.get("nobody.test").status == 404
        assert connection.get("www.test").body == b"red"
    with rawclient.Connection(passing.address) as plain:
        assert plain.get("mail.test").status == 404, "in clear text it is nobody's"


def test_much_passes_both_ways_and_the_end_is_told(passing: Passing) -> None:
    with passing.connect("mail.test") as connection:
        assert echoed(connection.socket, PAYLOAD) == PAYLOAD
        connection.socket.unwrap()


def echoed(connection: ssl.SSLSocket, payload: bytes) -> bytes:
    """Send and read at the same time; by one thread, since OpenSSL does not let two at it."""
    sent, found = 0, bytearray()
    connection.setblocking(False)
    while len(found) < len(payload):
        before = sent, len(found)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if sent < len(payload):
                sent += connection.send(payload[sent : sent + 16384])
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            found += connection.recv(65536)
        if (sent, len(found)) == before:
            waiting = [connection] if sent < len(payload) else []
            assert any(select.select([connection], waiting, [], 10)), "nothing comes or goes"
    connection.settimeout(10)
    return bytes(found)


@pytest.mark.parametrize("size", [1, 5, 64, 1000])
def test_a_hello_may_come_in_pieces(passing: Passing, size: int) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = passing.context.wrap_bio(incoming, outgoing, server_hostname="mail.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    with socket.create_connection(ports.split(passing.https), 10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(hello), size):
            plain.sendall(hello[start : start + size])
        while not client.cipher():
            incoming.write(plain.recv(65536))
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                continue
        assert client.getpeercert(binary_form=True) == passing.inner.der


def test_what_is_no_hello_is_answered_as_ever(passing: Passing) -> None:
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"):
        with socket.create_connection(ports.split(passing.https), 10) as plain:
            plain.sendall(junk)
            plain.shutdown(socket.SHUT_WR)
            answer = plain.recv(4096)
            assert answer == b"" or answer[0] == 21, answer


def test_it_is_logged_and_counted_by_its_name(passing: Passing) -> None:
    with passing.connect("mail.test") as connection:
        assert echoes(connection, b"12345")
    # What earlier tests asked this name for in other protocols is logged under it too.
    [*_, entry] = passing.daemon.wait_for_access(
        lambda each: (each["host"], each["protocol"]) == ("mail.test", "TLS")
    )
    assert (entry["frontend"], entry["cluster"], entry["backend"]) == ("mail", "mail", "mail/echo")
    assert entry["outcome"] == "tunnel_closed"
    assert entry["bytes_in"] > len(passing.inner.der) / 4
    assert entry["status"] == 0


def test_a_backend_that_is_away_closes_the_connection(tmp_path: Path) -> None:
    with Passing(tmp_path) as site:
        with site.connect("mail.test") as connection:
            assert echoes(connection)
        files = site.passing(retries=0)
        document: Any = files["kakehi.yaml"]
        with contextlib.closing(ports.Refusing()) as away:
            document["clusters"]["mail"]["backends"]["echo"]["address"] = away.address
            site.daemon.commit(files)
            with pytest.raises((ssl.SSLError, OSError)):
                site.connect("mail.test")
        entry = site.daemon.wait_for_access(lambda each: each["outcome"] == "connect_failed")[-1]
        assert entry["host"] == "mail.test"
        # It is back, by a commit that also moves the frontend to TLS that ends here.
        document["clusters"]["mail"]["backends"]["echo"]["address"] = site.echo.address
        site.daemon.commit(files)
        with site.connect("mail.test") as kept:
            assert echoes(kept)
            document["frontends"]["mail"]["passthrough"] = False
            document["frontends"]["mail"]["cluster"] = "main"
            files |= pem_files({"shop": site.leaf("www.test", "mail.test")})
            site.daemon.commit(files)
            with site.connect("mail.test") as ended:
                assert ended.get("mail.test").status == 200
            assert echoes(kept), "what was passed on goes on"


def test_workers_come_to_rest(passing: Passing) -> None:
    with passing.connect("mail.test") as connection:
        assert echoes(connection)
        # The client is gone without a word.
        connection.reset()
    processes.wait_until(
        lambda: all(each["connections"] == 0 for each in passing.daemon.ask("status")["workers"]),
        "nothing is left open",
    )
