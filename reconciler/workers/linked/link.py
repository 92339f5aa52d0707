"""The control connection to one worker.

A worker answers every message in order, so a request is matched with its reply by position. Called
by `reconciler.workers.slots.tending`, and through `Worker` by whoever asks one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import socket
from collections import deque
from collections.abc import Callable

from reconciler.errors import MachineError
from reconciler.patience import within
from schemas.messages import wire
from schemas.messages.channel import Channel
from schemas.messages.frames import WireError
from schemas.record import record

_UNASKED = (wire.Leaving, wire.Failed, wire.Stale)


class WorkerGoneError(MachineError):
    """The worker's connection or process ended, or it broke the protocol."""


@record
class Question:
    """Something that was asked, and how much longer than a turn its answer may take."""

    number: int
    work_s: float


# A worker stages a part of a change in some milliseconds, and looks at it again when it prepares.
_WORK_CHUNK_S = 0.1
# What it says each second, and has not said for so long, it does not say any more.
_WORKED_S = 3.0


class OutrankedError(WorkerGoneError):
    """The worker has been spoken to by a daemon of a higher epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"a daemon of epoch {epoch} speaks to it")
        self.epoch = epoch


class Link:
    """The control connection to one worker."""

    def __init__(
        self,
        connection: socket.socket,
        unasked: Callable[[Link, wire.FromWorker], None] = lambda _link, _message: None,
    ) -> None:
        """`unasked` hears what the worker says by itself."""
        self._unasked = unasked
        self._channel = Channel(connection)
        self._loop = asyncio.get_running_loop()
        self._asked: deque[asyncio.Future[wire.FromWorker]] = deque()
        self._questions: deque[Question] = deque()
        self._numbers = itertools.count()
        self._closed = False
        self._welcome_descriptors: list[int] = []
        self.outranked_by: int | None = None
        """The epoch of a daemon that the worker has been spoken to by since."""
        self._worked_at = -math.inf
        self._watching: list[Callable[[str], None]] = []
        self._loop.add_reader(self._channel.fileno(), self._read)

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._closed

    def watch(self, closed: Callable[[str], None]) -> None:
        """`closed` is called with the reason when the connection ends."""
        self._watching.append(closed)

    def unwatch(self, closed: Callable[[str], None]) -> None:
        """Whoever has watched needs to hear of it no more; nor does he where nobody does."""
        with contextlib.suppress(ValueError):
            self._watching.remove(closed)

    def unwatch_all(self) -> None:
        """Nobody needs to hear of its end."""
        self._watching.clear()

    @property
    def awaited(self) -> Question | None:
        """The oldest question that has no answer yet."""
        return self._questions[0] if self._questions else None

    def is_working(self) -> bool:
        """Whether it has just said that it is at what it was asked: as it does each second."""
        return bool(self._asked) and self._loop.time() - self._worked_at < _WORKED_S

    def ask(
        self, message: wire.ToWorker, descriptors: list[int] | None = None
    ) -> asyncio.Future[wire.FromWorker]:
        """Sends a message; the future gets its reply, or `WorkerGoneError`."""
        work_s = message.chunks * _WORK_CHUNK_S if isinstance(message, wire.Prepare) else 0.0
        return self.ask_encoded(wire.encode(message), descriptors, work_s=work_s)

    def ask_encoded(
        self, frame: bytes, descriptors: list[int] | None = None, *, work_s: float = 0.0
    ) -> asyncio.Future[wire.FromWorker]:
        """The same with a message that was encoded once for several workers.

        `work_s`: so much there is to do before it can answer.
        """
        reply: asyncio.Future[wire.FromWorker] = self._loop.create_future()
        if self._closed:
            _fail(reply, "the worker is gone")
            return reply
        self._asked.append(reply)
        self._questions.append(Question(next(self._numbers), work_s))
        try:
            self._channel.send(frame, descriptors)
        except (WireError, OSError) as error:
            self._unwritable(error)
            return reply
        if self._channel.has_outgoing:
            self._loop.add_writer(self._channel.fileno(), self._flush)
        return reply

    def close(self, reason: str) -> None:
        """Ends the connection; what was asked fails. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        self._questions.clear()
        while self._asked:
            reply = self._asked.popleft()
            if not reply.done():
                _fail(reply, reason)
        for callback in list(self._watching):
            callback(reason)

    def take_welcome_descriptors(self) -> list[int]:
        """What came with its welcome, to be closed by whoever takes it: counters, then sockets."""
        taken, self._welcome_descriptors = self._welcome_descriptors, []
        return taken

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError as error:
            self._unwritable(error)
            return
        if not self._channel.has_outgoing:
            self._loop.remove_writer(self._channel.fileno())

    def _unwritable(self, error: Exception) -> None:
        # What came before may say why: who was paused has not read it.
        self._read()
        self.close(f"cannot write to it: {error}")

    def _read(self) -> None:
        try:
            bodies, ended = self._channel.receive()
            for body in bodies:
                self._take(wire.decode_from_worker(body))
        except (WireError, OSError) as error:
            self.close(f"its connection failed: {error}")
            return
        if ended:
            self.close("its connection ended")

    def _take(self, message: wire.FromWorker) -> None:
        if isinstance(message, wire.Welcome):
            count = len(message.listeners) + 1
            self._welcome_descriptors = self._channel.take_descriptors(count)
        if isinstance(message, wire.Working):
            self._worked_at = self._loop.time()
            if self._questions:
                # It is as if it had been asked just now.
                work_s = self._questions[0].work_s
                self._questions[0] = Question(next(self._numbers), work_s)
            return
        if isinstance(message, _UNASKED):
            if isinstance(message, wire.Stale):
                self.outranked_by = message.epoch
            self._unasked(self, message)
            return
        if not self._asked:
            raise WireError(f"{message.type} was not asked for")
        reply = self._asked.popleft()
        self._questions.popleft()
        if not reply.done():
            reply.set_result(message)


def _fail(reply: asyncio.Future[wire.FromWorker], reason: str) -> None:
    reply.set_exception(WorkerGoneError(reason))
    # Whoever asked may not wait for it (any more); that is no error of its own.
    reply.exception()


async def greet(link: Link, epoch: int, timeout_s: float) -> wire.Welcome:
    """Says hello. Raises `WorkerGoneError` when no welcome comes in time, or `OutrankedError`."""
    try:
        async with within(timeout_s):
            reply = await link.ask(wire.Hello(epoch=epoch, protocol=wire.PROTOCOL))
    except TimeoutError:
        raise WorkerGoneError(f"it did not answer in {timeout_s:g} s") from None
    except WorkerGoneError:
        if link.outranked_by is not None:
            raise OutrankedError(link.outranked_by) from None
        raise
    if not isinstance(reply, wire.Welcome):
        raise WorkerGoneError(f"it answered hello by {reply.type}")
    return reply
