"""The socket between the reconciler and a worker: frames, and descriptors by SCM_RIGHTS.

The one place in `schemas` that touches a socket, because both sides need exactly this and may not
import one another. It knows no event loop: the owner calls `receive` when the socket is readable
and `flush` when it is writable.

Descriptors travel with the first byte of their frame, and one `recvmsg` ends behind bytes that came
with descriptors. So at most one frame's descriptors are pending, as long as the owner takes them
when it decodes the frame that announces them.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections import deque

from schemas.messages.frames import DESCRIPTORS_MAX, FrameDecoder, WireError

_READ_BYTES = 256 * 1024
# A peer that stops reading must not make this side hold frames without end.
_QUEUED_BYTES_MAX = 256 * 1024 * 1024


class Channel:
    """A non-blocking AF_UNIX stream socket; owns it, and every descriptor not yet handed out."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._decoder = FrameDecoder()
        self._received: list[int] = []
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._queued_bytes = 0

    def fileno(self) -> int:
        """The descriptor, for the event loop."""
        return self._connection.fileno()

    @property
    def has_outgoing(self) -> bool:
        """Whether `flush` is to be called when the socket is writable."""
        return bool(self._outgoing)

    def send(self, frame: bytes, descriptors: list[int] | None = None) -> None:
        """Writes what the socket takes, queues the rest; descriptors that wait are duplicated."""
        if descriptors and len(descriptors) > DESCRIPTORS_MAX:
            raise WireError(f"{len(descriptors)} descriptors exceed {DESCRIPTORS_MAX} a message")
        if self._queued_bytes + len(frame) > _QUEUED_BYTES_MAX:
            raise WireError("the peer does not read")
        rest, kept = memoryview(frame), list(descriptors or ())
        if not self._outgoing:
            # Whoever has no descriptor left can still send those that it has.
            with contextlib.suppress(BlockingIOError):
                sent = self._connection.sendmsg([rest], _ancillary(kept))
                rest, kept = rest[sent:], []
        if rest:
            self._outgoing.append((rest, [os.dup(each) for each in kept]))
            self._queued_bytes += len(rest)

    def flush(self) -> None:
        """Writes until the socket takes no more. Raises `OSError` when the peer is gone."""
        while self._outgoing:
            rest, descriptors = self._outgoing[0]
            ancillary = _ancillary(descriptors)
            try:
                sent = self._connection.sendmsg([rest], ancillary)
            except BlockingIOError:
                return
            for each in descriptors:
                os.close(each)
            self._queued_bytes -= sent
            if sent == len(rest):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = (rest[sent:], [])

    def receive(self) -> tuple[list[bytes], bool]:
        """(bodies that arrived, whether the peer has closed). Reads one buffer full."""
        try:
            data, ancillary, flags, _ = self._connection.recvmsg(
                _READ_BYTES, socket.CMSG_SPACE(DESCRIPTORS_MAX * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return [], False
        except ConnectionResetError:
            return [], True
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._received.extend(numbers)
        if flags & socket.MSG_CTRUNC:
            raise WireError("descriptors were lost on the way: too many files are open here")
        if len(self._received) > DESCRIPTORS_MAX:
            raise WireError("more descriptors arrived than a message may carry")
        if not data:
            return [], True
        return self._decoder.feed(data), False

    def take_descriptors(self, count: int) -> list[int]:
        """The descriptors of the message just decoded; the caller owns them now."""
        if count != len(self._received):
            raise WireError(f"{len(self._received)} descriptors arrived, {count} were announced")
        taken, self._received = self._received, []
        return taken

    def close(self) -> None:
        """Idempotent."""
        for _, descriptors in self._outgoing:
            for each in descriptors:
                with contextlib.suppress(OSError):
                    os.close(each)
        self._outgoing.clear()
        for each in self._received:
            with contextlib.suppress(OSError):
                os.close(each)
        self._received = []
        self._connection.close()


def _ancillary(descriptors: list[int]) -> list[tuple[int, int, array.array[int]]]:
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
