"""WebSockets to HTTP/2 backends (RFC 8441), from clients of both versions."""

from __future__ import annotations

import base64
import hashlib

import pytest

from tests.e2e.h2.conftest import Front
from tests.harness import processes
from tests.harness.h2backend import Request
from tests.harness.h2client import H2Client

TAKES_CONNECT = {8: 1}
KEY = base64.b64encode(b"0123456789abcdef")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: x\r\n\r\n" % KEY
)


def echo(request: Request) -> None:
    """Bytes come back in upper case; whose bytes they are is no matter here."""
    if request.get(":method") != "CONNECT":
        return request.answer(b"plain")
    request.head(200, ("sec-websocket-protocol", "x"))
    for part in request.parts():
        request.send(part.upper())
    return request.end()


def test_a_client_of_http_1_1(front: Front) -> None:
    backend = front.backend(echo, settings=TAKES_CONNECT)
    front.start(backend.address)
    with front.connect() as client, front.connect() as other:
        client.send(HANDSHAKE)
        response = client.read_head()
        assert response.status == 101
        accept = base64.b64encode(hashlib.sha1(KEY + GUID).digest())
        assert response.get("sec-websocket-accept") == accept
        assert response.get("upgrade") == b"websocket"
        assert response.get("sec-websocket-protocol") == b"x"
        for word in (b"hello", b"x" * 100_000):
            client.send(word)
            assert client.read_exactly(len(word)) == word.upper()
        assert other.get("a").body == b"plain"
        client.half_close()
        assert client.read_to_close() == b""
    (request, _) = backend.seen
    assert request.get(":protocol") == "websocket"
    assert request.get(":path") == "/chat"
    assert request.get("sec-websocket-key") is None
    assert request.get("sec-websocket-version") == "13"
    assert len(backend.peers) == 1
    assert (101, "tunnel_closed") in front.outcomes(2)


def test_a_client_of_http_2(front: Front) -> None:
    backend = front.backend(echo, settings=TAKES_CONNECT)
    front.start(backend.address)
    with H2Client(front.address) as client:
        stream = client.websocket("a", "/chat")
        assert client.statuses[stream] == 200
        client.send(stream, b"hello")
        client.read_until(lambda: client.bodies.get(stream) == b"HELLO")
        client.end(stream)
        client.read_until(lambda: stream in client.ended)


def test_a_backend_without_rfc_8441(front: Front) -> None:
    """It is not asked: it could only take the request for something else."""
    backend = front.backend(echo)
    front.start(backend.address)
    with front.connect() as client:
        client.send(HANDSHAKE)
        assert client.read_response().status == 501
    assert not backend.seen
    assert front.outcomes(1) == [(501, "upgrade_refused")]


@pytest.mark.parametrize("status", [200, 403])
def test_a_handshake_that_is_refused(front: Front, status: int) -> None:
    def script(request: Request) -> None:
        if status == 403:
            return request.answer(b"no", 403)
        return request.give_up(8)  # type: ignore[arg-type]

    front.start(front.backend(script, settings=TAKES_CONNECT).address)
    with front.connect() as client:
        client.send(HANDSHAKE)
        assert client.read_response().status == (403 if status == 403 else 502)


def test_a_client_that_leaves_ends_the_stream(front: Front) -> None:
    backend = front.backend(echo, settings=TAKES_CONNECT)
    front.start(backend.address)
    client = front.connect()
    client.send(HANDSHAKE)
    assert client.read_head().status == 101
    client.reset()
    (request,) = backend.seen
    processes.wait_until(
        lambda: request.reset is not None or request.ended, "the backend hears of it"
    )


def test_a_backend_that_resets_the_stream_ends_the_websocket(front: Front) -> None:
    def script(request: Request) -> None:
        request.head(200)
        request.read_some(1)
        request.give_up(8)  # type: ignore[arg-type]

    backend = front.backend(script, settings=TAKES_CONNECT)
    front.start(backend.address)
    with front.connect() as client:
        client.send(HANDSHAKE)
        assert client.read_head().status == 101
        client.send(b"x")
        assert client.read_to_close() == b""
