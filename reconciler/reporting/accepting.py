"""A listening socket that is answered from when descriptors have run out, too.

The event loop's own way of accepting closes what it cannot take, so that whoever asks what is the
matter is told nothing. Here the reserve is given up for the answer, and while that is not enough
connections wait in the kernel's queue. Called by `control_socket` and `admin`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from reconciler.workers.listening.descriptors import Reserve

_BACKLOG = 100
# So soon it is tried again when there was nothing to accept with.
_AGAIN_S = 0.05

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Accepting:
    """Owns a listening socket until `close`; each connection is served by a task of its own."""

    def __init__(
        self, listening: socket.socket, serve: Serve, line_bytes_max: int, reserve: Reserve
    ) -> None:
        """Raises `OSError`."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._serve = serve
        self._line_bytes_max = line_bytes_max
        self._reserve = reserve
        self._conversations: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        self._loop.add_reader(listening, self._accept)

    @property
    def conversations(self) -> set[asyncio.Task[None]]:
        """Those that are under way."""
        return set(self._conversations)

    def close(self) -> None:
        """Accepts no more; what is under way goes on."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _accept(self) -> None:
        self._reserve.begin()
        try:
            connection, _ = self._listening.accept()
        except OSError as error:
            self._reserve.end()
            if not isinstance(error, BlockingIOError | ConnectionError):
                self._loop.remove_reader(self._listening)
                self._again = self._loop.call_later(_AGAIN_S, self._resume)
            return
        task = self._loop.create_task(self._converse(connection))
        self._conversations.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._conversations.discard(task)
        self._reserve.end()

    def _resume(self) -> None:
        self._again = None
        self._loop.add_reader(self._listening, self._accept)

    async def _converse(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader(self._line_bytes_max)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
