"""WebSocket (RFC 6455), as little as a test needs: the handshake and whole frames, both sides."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable

from tests.harness import rawclient, wire
from tests.harness.rawbackend import Exchange

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept_key(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def handshake(host: str, path: str = "/", key: bytes = b"") -> bytes:
    """The bytes that open a WebSocket, from the client."""
    key = key or base64.b64encode(os.urandom(16))
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n\r\n"
    ).encode()


def switching(request: wire.Request) -> bytes:
    """The bytes that a backend accepts the handshake with."""
    key = request.get("sec-websocket-key") or b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
    )


def frame(payload: bytes, opcode: int = BINARY, *, masked: bool = False) -> bytes:
    """Encode one whole frame."""
    mask_bit = 0x80 if masked else 0
    length = len(payload)
    if length < 126:
        head = bytes([0x80 | opcode, mask_bit | length])
    elif length < 1 << 16:
        head = bytes([0x80 | opcode, mask_bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, mask_bit | 127]) + length.to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return mixed.to_bytes(size, "big")


def read_frame(read_exactly: Callable[[int], bytes]) -> tuple[int, bytes]:
    """Read one frame and return its opcode and payload."""
    first, second = read_exactly(2)
    length = second & 0x7F
    if length == 126:
        length = int.from_bytes(read_exactly(2), "big")
    elif length == 127:
        length = int.from_bytes(read_exactly(8), "big")
    mask = read_exactly(4) if second & 0x80 else b""
    payload = read_exactly(length)
    return first & 0x0F, _masked(payload, mask) if mask else payload


class Client:
    """A WebSocket through the proxy."""

    def __init__(self, connection: rawclient.Connection, host: str, path: str = "/") -> None:
        self.connection = connection
        key = base64.b64encode(os.urandom(16))
        connection.send(handshake(host, path, key))
        response = connection.read_response()
        assert response.status == 101, response
        assert response.get("sec-websocket-accept") == accept_key(key), response
        self.response = response

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        self.connection.send(frame(payload, opcode, masked=True))

    def receive(self) -> tuple[int, bytes]:
        return read_frame(self.connection.read_exactly)

    def echo(self, payload: bytes) -> None:
        """Send a message to an echoing backend and check that it comes back."""
        self.send(payload)
        assert self.receive() == (BINARY, payload)


def serve_echo(exchange: Exchange) -> None:
    """A backend script: accept the handshake, return each message, end at a close frame."""
    exchange.send(switching(exchange.request))
    connection = exchange.connection

    def read_exactly(length: int) -> bytes:
        while len(connection.unread) < length:
            if not connection.fill():
                raise OSError("the tunnel ended")
        data = bytes(connection.unread[:length])
        with exchange.backend.changed:
            del connection.unread[:length]
        return data

    while True:
        opcode, payload = read_frame(read_exactly)
        exchange.send(frame(payload, opcode))
        if opcode == CLOSE:
            exchange.close()
            return
