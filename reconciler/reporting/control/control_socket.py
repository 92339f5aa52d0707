"""The control socket: one line of JSON in, one line out. For the same user and for root only.

Called by `reconciler.daemon`; what is answered is in `reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

from reconciler import log
from reconciler.errors import MachineError
from reconciler.patience import within
from reconciler.reporting.accepting import Accepting
from reconciler.reporting.control.askers import Askers
from reconciler.reporting.control.refusals import RefusedRequestError
from reconciler.reporting.silent import Silent
from reconciler.workers.listening.descriptors import Reserve
from schemas.messages import control

_PEERCRED = struct.Struct("3i")
# Who has a connection and asks nothing: the oldest goes when there are more, and each in the end.
_SILENT_MAX = 256
_SILENT_S_MAX = 60.0
# So often it is looked whether who waits is still there.
_LEFT_LOOK_S = 1.0
_SOCKET_MODE = 0o600
# Who reads nothing for so long has left.
_READ_S_MAX = 30.0


class ControlSocket:
    """The listening socket and its connections."""

    def __init__(
        self,
        path: Path,
        answer: Callable[[control.Request], Awaitable[Any]],
        reserve: Reserve,
    ) -> None:
        self._path = path
        self._answer = answer
        self._reserve = reserve
        self._accepting: Accepting | None = None
        self._bound: tuple[int, int] | None = None
        self._askers = Askers()
        self._silent = Silent(_SILENT_MAX)

    def open(self) -> None:
        """Listens, also when it did before. Raises `MachineError`.

        The runtime directory's lock makes the path ours. What is being answered goes on.
        """
        former = self._accepting
        try:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise MachineError(f"cannot listen on {self._path}: {error.strerror}") from error
        try:
            self._path.unlink(missing_ok=True)
            listening.bind(str(self._path))
            self._path.chmod(_SOCKET_MODE)
            self._bound = self._identity()
            self._accepting = Accepting(
                listening, self._serve, control.MESSAGE_BYTES_MAX, self._reserve
            )
        except OSError as error:
            listening.close()
            self._bound = None
            reason = error.strerror or error
            raise MachineError(f"cannot listen on {self._path}: {reason}") from error
        # Until then the kernel's table tells that a daemon runs here.
        if former is not None:
            former.close()

    async def close(self) -> None:
        """Answers nothing new; lets answers under way be written."""
        if self._accepting is not None:
            self._accepting.close()
        # A daemon that took over from us listens under the same name.
        if self.is_found:
            self._path.unlink(missing_ok=True)
        under_way = self._accepting.conversations if self._accepting is not None else set()
        if under_way:
            await asyncio.wait(under_way, timeout=1.0)
        for task in under_way:
            task.cancel()

    @property
    def is_found(self) -> bool:
        """Whether somebody who connects comes to us."""
        return self._bound is not None and self._identity() == self._bound

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not _may_ask(writer):
            return
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            await self._converse(reader, writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await self._line(reader, writer)
            except asyncio.LimitOverrunError:
                limit = control.MESSAGE_BYTES_MAX
                error = f"a request may have at most {limit} bytes"
                writer.write(control.encode_error("usage", error))
                await writer.drain()
                return
            await self._answer_to(line, writer)

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """What is asked next. Raises `TimeoutError` where nothing is."""
        with self._silent.waits(writer):
            async with within(_SILENT_S_MAX):
                return await reader.readuntil(b"\n")

    async def _answer_to(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        """Writes the answer at the pace of whoever reads it."""
        with contextlib.ExitStack() as place:
            await self._write(*await self._begin(line, writer, place), writer)

    async def _write(
        self, part: bytes | None, rest: Generator[bytes], writer: asyncio.StreamWriter
    ) -> None:
        try:
            while part is not None:
                writer.write(part)
                # It may hold a snapshot of what runs meanwhile.
                async with within(_READ_S_MAX):
                    await writer.drain()
                part = await asyncio.to_thread(next, rest, None)
        finally:
            # One that still runs in its thread ends with it.
            with contextlib.suppress(ValueError):
                rest.close()

    async def _begin(
        self, line: bytes, writer: asyncio.StreamWriter, place: contextlib.ExitStack
    ) -> tuple[bytes, Generator[bytes]]:
        """The first part of an answer, or all that is to be said, and what follows it."""
        try:
            request = control.decode_request(line)
            place.enter_context(self._askers.place_for(request))
            if isinstance(request, control.WaitRequest):
                result = await _unless_left(self._answer(request), writer)
                # A sentence: to hand it to a thread would take longer than to write it.
                return control.encode_result(result), _nothing()
            result = await self._answer(request)
            # An answer may have all that runs, and others are waiting.
            if isinstance(result, Generator):
                return await asyncio.to_thread(next, result), result
            return await asyncio.to_thread(control.encode_result, result), _nothing()
        except control.MalformedMessageError as error:
            said = control.encode_error("usage", str(error))
        except RefusedRequestError as error:
            said = control.encode_error(error.code, str(error))
        except ConnectionResetError:
            raise
        except (MachineError, OSError) as error:
            said = control.encode_error("unavailable", str(error))
        except Exception as error:  # noqa: BLE001  # a bad request must not end the daemon
            name = _name(line)
            said = control.encode_error("internal", log.internal_error(f"answering {name}", error))
        return said, _nothing()


async def _unless_left(answer: Awaitable[Any], writer: asyncio.StreamWriter) -> Any:
    """What is answered to who waits. Raises `ConnectionResetError` when he has gone."""
    answering = asyncio.ensure_future(answer)
    try:
        # Of a connection on which nothing more can be asked, an answer may still be read.
        poll = select.poll()
        if not writer.transport.is_closing():
            poll.register(writer.get_extra_info("socket").fileno(), 0)
        while not (await asyncio.wait((answering,), timeout=_LEFT_LOOK_S))[0]:
            hung_up = any(event & select.POLLHUP for _, event in poll.poll(0))
            if hung_up or writer.transport.is_closing():
                raise ConnectionResetError("whoever waited has gone")
        return answering.result()
    finally:
        answering.cancel()


def _nothing() -> Generator[bytes]:
    yield from ()


def _may_ask(writer: asyncio.StreamWriter) -> bool:
    connection = writer.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    _, uid, _ = _PEERCRED.unpack(credentials)
    return uid in (0, os.getuid())


def _name(line: bytes) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(line).get("request"))
    return "a request"
