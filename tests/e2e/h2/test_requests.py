"""What HTTP/2 backends are sent, and what their clients get, over HTTP/1.1 and over HTTP/2."""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.h2.conftest import Front
from tests.harness import processes, wire
from tests.harness.h2backend import Request
from tests.harness.rawclient import Connection

BOTH = pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])


@BOTH
def test_a_request_and_its_answer(front: Front, version: str) -> None:
    backend = front.backend()
    front.start(backend.address)
    status, _, body = front.curl("/a?b=c", version, "-H", "X-Mine: 1", "-b", "c=d; e=f")
    assert (status, body) == (200, b"h2")
    (request,) = backend.seen
    fields = dict(request.fields)
    host = front.address
    assert fields[":method"] == "GET" and fields[":path"] == "/a?b=c"
    assert fields[":scheme"] == "http" and fields[":authority"] == host
    assert fields["x-mine"] == "1" and fields["cookie"] == "c=d; e=f"
    assert fields["x-forwarded-for"] == "127.0.0.1" and fields["x-forwarded-proto"] == "http"
    assert "x-request-id" in fields
    names = [name for name, _ in request.fields]
    assert not {"connection", "host", "transfer-encoding", "keep-alive", "upgrade"} & set(names)
    assert names == [name.lower() for name in names]


@BOTH
@pytest.mark.parametrize("length", [1, 20_000, 3_000_000])
def test_bodies_pass_both_ways(front: Front, version: str, length: int) -> None:
    backend = front.backend()
    front.start(backend.address)
    body = bytes(range(256)) * (length // 256 + 1)
    path = front.directory / "body"
    path.write_bytes(body[:length])
    status, _, answer = front.curl("/", version, "--data-binary", f"@{path}")
    assert (status, answer) == (200, body[:length])
    # Without a length.
    status, _, answer = front.curl(
        "/", version, "-X", "POST", "-T", str(path), "-H", "Transfer-Encoding: chunked"
    )
    assert (status, answer) == (200, body[:length])
    first, second = backend.seen
    assert first.get("content-length") == str(length)
    if version == "--http1.1":
        assert second.get("content-length") is None


def test_a_response_without_a_length_is_chunked(front: Front) -> None:
    def script(request: Request) -> None:
        request.head()
        for _ in range(3):
            request.send(b"abc")
        request.end(("x-sum", "9"))

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        for _ in range(2):
            response = client.get("shop.test")
            assert response.body == b"abcabcabc"
            assert response.get("transfer-encoding") == b"chunked"
            assert dict(response.trailers)[b"x-sum"] == b"9"
    assert len(backend.peers) == 1


def test_a_client_of_http_1_0_gets_bytes_until_the_end(front: Front) -> None:
    def script(request: Request) -> None:
        request.head()
        request.send(b"abc")
        request.end()

    front.start(front.backend(script).address)
    with front.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = client.read_to_close().partition(b"\r\n\r\n")
        assert body == b"abc" and b"chunked" not in head


def test_trailers_of_requests_and_responses(front: Front) -> None:
    def script(request: Request) -> None:
        body = request.read()
        request.head()
        request.send(body)
        request.end(*request.trailers)

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n"
            b"Connection: TE\r\nTrailer: X-Sum\r\n\r\n"
        )
        client.send(wire.chunked(b"abcdef", 2, [(b"X-Sum", b"6")]))
        response = client.read_response()
        assert response.body == b"abcdef"
        assert (b"x-sum", b"6") in response.trailers
    assert backend.seen[0].trailers == [("x-sum", "6")]
    assert backend.seen[0].get("te") == "trailers"
    done = subprocess.run(
        ["nghttp", "-v", "--trailer=x-sum: 7", "-d/etc/hostname", f"http://{front.address}/"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert "x-sum: 7" in done.stdout.split("send DATA")[-1]


def test_responses_without_a_body(front: Front) -> None:
    def script(request: Request) -> None:
        status = int(request.path[1:])
        if request.get(":method") == "HEAD":
            request.head(status, ("content-length", "7"), ends=True)
        else:
            request.head(status, ends=True)

    front.start(front.backend(script).address)
    with front.connect() as client:
        assert client.get("a", "/204").status == 204
        assert client.get("a", "/304").status == 304
        head = client.get("a", "/200", method="HEAD")
        assert (head.status, head.get("content-length")) == (200, b"7")
        empty = client.get("a", "/200")
        assert (empty.body, empty.get("content-length")) == (b"", b"0")


def test_interim_responses_pass(front: Front) -> None:
    def script(request: Request) -> None:
        request.peer.do(
            lambda it: it.send_headers(request.stream, [(":status", "103"), ("link", "</a>")])
        )
        request.answer(b"done")

    front.start(front.backend(script).address)
    with front.connect() as client:
        assert client.get("a").body == b"done"
        assert [each.status for each in client.interim] == [103]


def test_expect_100_continue(front: Front) -> None:
    def script(request: Request) -> None:
        if request.path == "/no":
            return request.head(417, ends=True)
        request.peer.do(lambda it: it.send_headers(request.stream, [(":status", "100")]))
        return request.answer(request.read())

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read_any().status == 100
        client.send(b"abc")
        assert client.read_response().body == b"abc"
        client.send(
            b"POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read_response().status == 417


def test_many_clients_share_few_connections(front: Front) -> None:
    """The whole point: 100 requests at a time, one connection."""
    backend = front.backend()
    front.start(backend.address)

    def run(_: int) -> None:
        with front.connect() as client:
            for _ in range(5):
                assert client.get("shop.test").body == b"h2"

    run(0)
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(run, range(100)))
    assert len(backend.seen) == 505
    assert len(backend.peers) == 1
    assert not backend.errors


def test_no_more_streams_than_the_backend_takes(front: Front) -> None:
    """A backend that takes 4 streams at a time gets more connections, and refuses nothing."""
    gate = threading.Event()

    def script(request: Request) -> None:
        if request.path == "/wait":
            gate.wait(20)
        request.answer(b"x")

    backend = front.backend(script, settings={3: 4})
    front.start(backend.address)

    def run(_: int) -> None:
        with front.connect() as client:
            assert client.get("shop.test", "/wait").body == b"x"

    with ThreadPoolExecutor(40) as pool:
        done = [pool.submit(run, number) for number in range(40)]
        backend.wait_for(40)
        assert all(len(peer.requests) <= 4 for peer in backend.peers)
        gate.set()
        for each in done:
            each.result(20)
    assert not backend.errors


def test_a_pipelined_burst_is_answered_in_order(front: Front) -> None:
    backend = front.backend(lambda request: request.answer(request.path.encode()))
    front.start(backend.address)
    with front.connect() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(50)))
        for number in range(50):
            assert client.read_response().body == b"/%d" % number


def test_connections_are_closed_when_nobody_has_used_them_for_long(front: Front) -> None:
    backend = front.backend()
    front.start(backend.address, timeouts={"keep_alive": "300ms"})
    with Connection(front.address) as client:
        assert client.get("a").status == 200
    processes.wait_until(lambda: not backend.alive, "the idle connection is closed")
