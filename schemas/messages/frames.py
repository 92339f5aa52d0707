"""Frames: a big-endian u32 length and that many bytes, taken apart sans-I/O.

What is in one is up to `schemas.messages.wire`. Called by that and by `schemas.messages.channel`.
"""

from __future__ import annotations

# No message comes near it: a state travels in chunks, and the largest entity is a file of 4 MiB.
FRAME_BYTES_MAX = 64 * 1024 * 1024
LENGTH_BYTES = 4
# The kernel's SCM_MAX_FD is 253 descriptors a message; a frame with more is refused on both sides.
DESCRIPTORS_MAX = 253
# A welcome of a worker carries the memfd of its counters and a descriptor for each listener.
LISTENERS_MAX = DESCRIPTORS_MAX - 1


class WireError(Exception):
    """The peer broke the protocol; the connection is of no use any more."""


def framed(body: bytes, what: str) -> bytes:
    """A body as one frame. Raises `WireError` if it is larger than a frame may be."""
    if len(body) > FRAME_BYTES_MAX:
        raise WireError(f"a {what} message of {len(body)} bytes exceeds a frame")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameDecoder:
    """Bytes in, bodies out. Never holds more than one frame and the bytes just fed."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes. Raises `WireError` on a length over the limit."""
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= LENGTH_BYTES:
            body_start = start + LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body_start], "big")
            if length > FRAME_BYTES_MAX:
                raise WireError(f"a frame of {length} bytes exceeds {FRAME_BYTES_MAX}")
            if len(self._buffer) < body_start + length:
                break
            start = body_start + length
            bodies.append(bytes(self._buffer[body_start:start]))
        if start:
            del self._buffer[:start]
        return bodies
