"""The control connection to the prober, which answers in the order in which it is asked.

Called by `leading` beside.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from reconciler.patience import within
from reconciler.workers.linked.link import WorkerGoneError
from schemas.messages import probing
from schemas.messages.channel import Channel
from schemas.messages.frames import WireError

ANSWER_TIMEOUT_S = 10.0


class ProberLink:
    """The connection; ended by whichever side breaks it."""

    def __init__(self, connection: socket.socket, turned: Callable[[probing.Turned], None]) -> None:
        """`turned` hears which backends have."""
        self._turned = turned
        self._channel = Channel(connection)
        self._loop = asyncio.get_running_loop()
        self._asked: deque[asyncio.Future[probing.FromProber]] = deque()
        self.closed = asyncio.Event()
        self._loop.add_reader(self._channel.fileno(), self._read)

    async def ask(
        self, message: probing.ToProber, descriptors: list[int] | None = None
    ) -> probing.FromProber:
        """Its reply. Raises `WorkerGoneError` where none comes in time."""
        reply: asyncio.Future[probing.FromProber] = self._loop.create_future()
        if self.closed.is_set():
            raise WorkerGoneError("its connection has ended")
        self._asked.append(reply)
        self._send(message, descriptors)
        try:
            async with within(ANSWER_TIMEOUT_S):
                return await reply
        except TimeoutError:
            reason = f"it did not answer {message.type} in {ANSWER_TIMEOUT_S:g} s"
            self.close(reason)
            raise WorkerGoneError(reason) from None

    def tell(self, message: probing.End) -> None:
        """Say what has no answer."""
        if not self.closed.is_set():
            self._send(message, None)

    def close(self, reason: str) -> None:
        """End the connection; what was asked fails. Idempotent."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        while self._asked:
            reply = self._asked.popleft()
            if not reply.done():
                reply.set_exception(WorkerGoneError(reason))
                # Whoever asked may not wait for it any more.
                reply.exception()

    def _send(self, message: probing.ToProber, descriptors: list[int] | None) -> None:
        try:
            self._channel.send(probing.encode(message), descriptors)
        except (WireError, OSError) as error:
            self.close(f"cannot write to it: {error}")
            return
        if self._channel.has_outgoing:
            self._loop.add_writer(self._channel.fileno(), self._flush)

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError as error:
            self.close(f"cannot write to it: {error}")
            return
        if not self._channel.has_outgoing:
            self._loop.remove_writer(self._channel.fileno())

    def _read(self) -> None:
        try:
            bodies, ended = self._channel.receive()
            for body in bodies:
                self._take(probing.decode_from_prober(body))
        except (WireError, OSError) as error:
            self.close(f"its connection failed: {error}")
            return
        if ended:
            self.close("its connection ended")

    def _take(self, message: probing.FromProber) -> None:
        if isinstance(message, probing.Turned):
            self._turned(message)
        elif isinstance(message, probing.Outranked):
            self.close("a newer daemon speaks to it")
        elif not self._asked:
            raise WireError(f"{message.type} was not asked for")
        else:
            reply = self._asked.popleft()
            if not reply.done():
                reply.set_result(message)
