"""What is carried over TLS is what was sent: large bodies, pipelines, WebSockets, slow peers."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes, tls, websocket, wire
from tests.harness.nginx import Nginx
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection, Truncated
from tests.harness.tlssite import TlsSite, pem_files

_MIB = 1 << 20
_LARGE = 256 * _MIB
_PATTERN = hashlib.shake_256(b"kakehi").digest(_MIB)


def serve(exchange: Exchange) -> None:
    """Echo the digest of what came, or open a WebSocket."""
    if exchange.request.path == "/socket":
        websocket.serve_echo(exchange)
        return
    body = exchange.read_body()
    exchange.send(wire.response(hashlib.sha256(body).hexdigest().encode()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSite]:
    directory = tmp_path_factory.mktemp("traffic")
    locations = "        location = /put { dav_methods PUT; create_full_put_path on; }\n"
    with (
        Nginx(directory / "files", locations) as nginx,
        RawBackend(serve) as raw,
        TlsSite(directory) as made,
    ):
        with (nginx.files / "large").open("wb") as file:
            for _ in range(_LARGE // _MIB):
                file.write(_PATTERN)
        made.start(
            made.files(
                {"shop": made.leaf("www.test", "files.test", "raw.test")},
                clusters={"main": ["red"], "files": [nginx.address], "raw": [raw.address]},
                frontends={"www": "main", "files": "files", "raw": "raw"},
            )
        )
        made.nginx, made.raw = nginx, raw  # type: ignore[attr-defined]
        yield made


_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_large_download_arrives_whole(site: TlsSite, version: ssl.TLSVersion) -> None:
    context = tls.trusting(site.authority, version=version)
    with site.connect("files.test", context=context) as connection:
        connection.send(b"GET /large HTTP/1.1\r\nHost: files.test\r\n\r\n")
        head = connection.read_head()
        assert head.get("content-length") == str(_LARGE).encode()
        for number in range(_LARGE // _MIB):
            assert connection.read_exactly(_MIB) == _PATTERN, f"MiB {number}"
        assert connection.get("files.test", "/large", method="HEAD").status == 200


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_large_upload_arrives_whole(site: TlsSite, version: ssl.TLSVersion) -> None:
    name = f"up-{version}"
    context = tls.trusting(site.authority, version=version)
    with site.connect("files.test", context=context) as connection:
        connection.send(
            f"PUT /put HTTP/1.1\r\nHost: files.test\r\nX-Name: {name}\r\n"
            f"Content-Length: {_LARGE}\r\n\r\n".encode()
        )
        for _ in range(_LARGE // _MIB):
            connection.send(_PATTERN)
        assert connection.read_response("PUT").status in (201, 204)
    written = site.nginx.files / "put"  # type: ignore[attr-defined]
    assert written.stat().st_size == _LARGE
    with written.open("rb") as file:
        for number in range(_LARGE // _MIB):
            assert file.read(_MIB) == _PATTERN, f"MiB {number}"
    written.unlink()


def test_curl_uploads_and_downloads(site: TlsSite, tmp_path: Path) -> None:
    ca = tls.written(tmp_path, "ca.pem", site.authority.pem)
    host, port = ports.split(site.https)
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail", "--cacert", ca, "--noproxy", "*"),
            *("--resolve", f"files.test:{port}:{host}", "--output", str(tmp_path / "got")),
            f"https://files.test:{port}/large",
        ],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done
    digest = hashlib.sha256()
    for _ in range(_LARGE // _MIB):
        digest.update(_PATTERN)
    with (tmp_path / "got").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == digest.digest()


@pytest.mark.parametrize("size", [0, 1, 100, 16383, 16384, 16385, 65536, 1_000_003])
def test_bodies_around_the_size_of_a_record(site: TlsSite, size: int) -> None:
    body = (_PATTERN * 2)[:size]
    with site.connect("raw.test") as connection:
        for _ in range(3):
            response = connection.post("raw.test", body)
            assert response.body.decode() == hashlib.sha256(body).hexdigest()


def test_a_head_byte_by_byte_is_a_record_each(site: TlsSite) -> None:
    with site.connect() as connection:
        connection.send_byte_by_byte(b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n")
        assert connection.read_response().body == b"red"


def test_pipelined_requests_in_one_record_are_answered_in_order(site: TlsSite) -> None:
    with site.connect("raw.test") as connection:
        bodies = [b"one", b"two", b"three"]
        connection.send(
            b"".join(
                b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
                for body in bodies
            )
        )
        for body in bodies:
            assert connection.read_response().body.decode() == hashlib.sha256(body).hexdigest()


def test_the_backend_is_told_that_it_was_https(site: TlsSite) -> None:
    raw: RawBackend = site.raw  # type: ignore[attr-defined]
    with site.connect("raw.test") as connection:
        connection.get("raw.test", "/proto")
        connection.get("raw.test", "/proto", "X-Forwarded-Proto: http")
    raw.settle()
    requests = [
        request
        for each in raw.connections
        for request in each.stream().requests
        if request.path == "/proto"
    ]
    assert [request.get("x-forwarded-proto") for request in requests] == [b"https", b"https"]
    port = str(ports.split(site.https)[1]).encode()
    assert [request.get("x-forwarded-port") for request in requests] == [port, port]


# WebSocket


def test_a_websocket_over_tls_echoes_and_outlives_rotations(site: TlsSite) -> None:
    with site.connect("raw.test") as connection:
        client = websocket.Client(connection, "raw.test", "/socket")
        for number in range(5):
            site.commit(pem_files({"shop": site.leaf("www.test", "files.test", "raw.test")}))
            for size in (0, 1, 125, 126, 65535, 65536, _MIB):
                client.echo(_PATTERN[:size] + bytes([number]))
        client.send(b"\x03\xe8", websocket.CLOSE)
        assert client.receive()[0] == websocket.CLOSE


# Peers that do not play along


def test_an_orderly_end_is_told_by_close_notify(site: TlsSite) -> None:
    """Python's `recv` would raise if the end of the stream had not been authenticated."""
    context = tls.trusting(site.authority)
    with site.connect(context=context) as connection:
        response = connection.get("www.test", "/", "Connection: close")
        assert response.body == b"red"
        assert connection.socket.recv(1) == b""


def test_a_client_that_sends_close_notify_behind_its_request_is_answered(site: TlsSite) -> None:
    """As one that shuts its sending side in clear text is."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.context.wrap_bio(incoming, outgoing, server_hostname="www.test")
    with socket.create_connection(ports.split(site.https), timeout=10) as connection:

        def until_done(step: Callable[[], object]) -> object:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    data = connection.recv(65536)
                    if not data:
                        incoming.write_eof()
                    incoming.write(data)

        until_done(client.do_handshake)
        client.write(b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.unwrap()
        connection.sendall(outgoing.read())
        answer = until_done(lambda: client.read(65536))
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 200 "), answer


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\xff\xff" + b"\0" * 100,  # a record longer than allowed
        b"\x16\x03\x01\x00\x05\x01\x00\xff\xff\xff",  # a ClientHello of 16 MiB, announced
        b"\x15\x03\x03\x00\x02\x02\x28",  # an alert first
        b"\x80\x2e\x01\x03\x01" + b"\0" * 50,  # SSLv2's form
        b"\x00" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_junk_ends_its_connection_and_nothing_else(site: TlsSite, junk: bytes) -> None:
    pids = site.worker_pids()
    with site.connect() as honest, Connection(site.https) as connection:
        connection.send(junk)
        connection.half_close()
        rest = connection.read_to_close()
        assert b"HTTP" not in rest or b"400" in rest
        assert honest.get("www.test").body == b"red"
    assert site.worker_pids() == pids


def test_a_handshake_that_stalls_is_ended_in_time_and_holds_up_nobody(tmp_path: Path) -> None:
    with TlsSite(tmp_path, workers=1) as site:
        files = site.files({"shop": site.leaf("www.test")})
        document: Any = files["kakehi.yaml"]
        document["listeners"]["secure"]["timeouts"] = {"request_head": "700ms"}
        site.start(files)
        hello = _client_hello()
        for sent in (b"", hello[:3], hello[: len(hello) // 2], hello):
            with Connection(site.https) as connection:
                began = time.monotonic()
                connection.send(sent)
                assert site.shown(), "others are served meanwhile"
                connection.read_to_close()
                if sent:
                    assert time.monotonic() - began < 5, f"{len(sent)} bytes of a ClientHello"
        assert site.shown()


def test_a_thousand_half_open_handshakes_do_not_keep_others_out(site: TlsSite) -> None:
    hello = _client_hello()
    with contextlib.ExitStack() as stack:
        for number in range(500):
            connection = stack.enter_context(Connection(site.https))
            connection.send(hello[: 1 + number % len(hello)])
        for _ in range(10):
            with site.connect() as honest:
                assert honest.get("www.test").body == b"red"


def test_bytes_changed_on_the_way_are_seen(site: TlsSite) -> None:
    """A relay flips a bit of an application record: neither side takes it for content."""
    with (
        _Relay(site.https) as relay,
        tls.TlsConnection(relay.address, site.context, "www.test") as connection,
    ):
        assert connection.get("www.test").body == b"red"
        relay.corrupt.set()
        connection.send(b"GET /corrupted HTTP/1.1\r\nHost: www.test\r\n\r\n")
        with pytest.raises((ssl.SSLError, ConnectionResetError, Truncated)):
            connection.read_response()
    assert not [e for e in site.daemon.access_entries() if e.get("path") == "/corrupted"]
    assert site.shown()


def test_workers_leak_no_connections(site: TlsSite) -> None:
    pids = site.worker_pids()
    before = {pid: len(processes.socket_inodes(pid)) for pid in pids}
    for _ in range(200):
        with site.connect() as connection:
            connection.get("www.test")
    processes.wait_until(
        lambda: all(len(processes.socket_inodes(pid)) <= before[pid] + 4 for pid in pids),
        "closed connections are gone",
    )


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="www.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


class _Relay:
    """Passes one connection on; when told to, flips the last bit of what the client sends."""

    def __init__(self, target: str) -> None:
        self._target = ports.split(target)
        self._listener = ports.listening()
        self.address = ports.of(self._listener)
        self.corrupt = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> _Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self) -> None:
        client, _ = self._listener.accept()
        upstream = socket.create_connection(self._target)
        back = threading.Thread(target=self._pump, args=(upstream, client, False), daemon=True)
        self._threads.append(back)
        back.start()
        self._pump(client, upstream, True)
        back.join(10)
        client.close()
        upstream.close()

    def _pump(self, source: socket.socket, sink: socket.socket, forth: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if forth and self.corrupt.is_set():
                    data = data[:-1] + bytes([data[-1] ^ 1])
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
