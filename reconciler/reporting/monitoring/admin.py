"""The admin listener: GET /metrics and GET /healthz, nothing else, bounded in every dimension.

Its address is part of the configuration, so it is bound when a commit is prepared and served when
the commit is done. Called by `reconciler.transaction.runner` (prepare, commit, abort) and
`reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from reconciler import log
from reconciler.patience import within
from reconciler.reporting.accepting import Accepting
from reconciler.reporting.silent import Silent
from reconciler.workers.listening.descriptors import Reserve
from reconciler.workers.listening.opening import reason_of
from reconciler.workers.listening.sockets import BindError, check_exclusive, exclusive

_HEAD_BYTES_MAX = 8 * 1024
_TIMEOUT_S = 5.0
_SILENT_MAX = 32
_ANSWERING_MAX = 16
# How often it is looked whether an address that was taken at the start is free.
_RESUME_S = 2.0

_Answer = tuple[int, str, bytes]


class AdminListener:
    """At most one served address and one that is being prepared."""

    def __init__(
        self,
        metrics: Callable[[], bytes],
        health: Callable[[], tuple[bool, str]],
        reserve: Reserve,
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._address: str | None = None
        self._reserve = reserve
        self._accepting: Accepting | None = None
        self.problem: str | None = None
        """Why the metrics are not served."""
        self._staged: tuple[str | None, socket.socket | None] | None = None
        self._silent = Silent(_SILENT_MAX)
        self._answering = 0
        # A thread of its own: the loop's own threads start workers.
        self._threads = ThreadPoolExecutor(1, "metrics")
        self._printing: asyncio.Future[bytes] | None = None

    @property
    def address(self) -> str | None:
        """Where it is served now."""
        return self._address

    def check(self, address: str | None, given: Collection[str] = frozenset()) -> None:
        """Tries whether it could be bound. Raises `BindError`."""
        if address is not None and address != self._address:
            check_exclusive(address, self._address, given)

    def prepare(self, address: str | None, given: Collection[str] = frozenset()) -> None:
        """Binds an address beside the one that serves. Raises `BindError`.

        At those that are `given` up listeners take connections until it is committed.
        """
        self.abort()
        if address == self._address:
            return
        bound = None if address is None else exclusive(address, self._address, given)
        self._staged = (address, bound)

    def leave(self) -> None:
        """Serves no longer where a listener is to, unless `abort` follows."""
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.close()

    def commit(self) -> None:
        """Serves what was prepared, and no longer what was served before."""
        if self._staged is None:
            if self._accepting is None:
                # It left, and nobody says where to.
                self._address = None
            return
        (address, bound), self._staged = self._staged, None
        self.close()
        if bound is not None:
            self._accept(bound)
        self._address, self.problem = address, None

    def abort(self) -> None:
        """Closes what was prepared, and serves again what it left."""
        if self._staged is not None and self._staged[1] is not None:
            self._staged[1].close()
        self._staged = None
        if self._address is not None and self._accepting is None:
            try:
                self._accept(exclusive(self._address, beside=self._address))
            except (BindError, OSError) as error:
                self.problem = reason_of(error) if isinstance(error, BindError) else str(error)
                log.warning("the admin listener is not served", reason=self.problem)

    def _accept(self, bound: socket.socket) -> None:
        self._accepting = Accepting(bound, self._serve, _HEAD_BYTES_MAX, self._reserve)

    def close(self) -> None:
        """Serves nothing any more."""
        accepting, self._accepting = self._accepting, None
        self._address = None
        if accepting is not None:
            accepting.close()

    def resume(self, address: str | None) -> bool:
        """At the start: what the running settings say; a taken address does not stop the rest."""
        try:
            self.prepare(address)
            self.commit()
        except (BindError, OSError) as error:
            reason = reason_of(error) if isinstance(error, BindError) else str(error)
            if reason != self.problem:
                log.warning("the admin listener is not served", reason=reason)
            self.problem = reason
            return False
        self.problem = None
        return True

    async def keep_resuming(self, address: Callable[[], str | None]) -> None:
        """Until it is served: whoever has the address may leave it."""
        served = False
        while not served:
            await asyncio.sleep(_RESUME_S)
            # A transaction may be about to say where.
            if self._staged is None:
                served = self.resume(address())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with within(_TIMEOUT_S):
                head = await self._head(reader, writer)
                self._answering += 1
                try:
                    _write(writer, await self._answer(head))
                    await writer.drain()
                finally:
                    self._answering -= 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except Exception as error:  # noqa: BLE001  # a scrape must not end the daemon
            log.internal_error("serving metrics", error)

    async def _head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        with self._silent.waits(writer):
            return await reader.readuntil(b"\r\n\r\n")

    async def _print_metrics(self) -> bytes:
        """10,000 frontends take a while to print; the loop goes on meanwhile.

        Whoever asks before it is done gets the same: scrapes that give up leave one thread behind.
        """
        if self._printing is None or self._printing.done():
            loop = asyncio.get_running_loop()
            self._printing = loop.run_in_executor(self._threads, self._metrics)
            # Nobody may be left to hear of a failure.
            self._printing.add_done_callback(_hear)
        return await asyncio.shield(self._printing)

    async def _answer(self, head: bytes) -> _Answer:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, "text/plain", b"not an HTTP/1.1 request\n"
        method, target, _ = words
        if method != b"GET":
            return 405, "text/plain", b"only GET\n"
        match target.partition(b"?")[0]:
            case b"/metrics" if self._answering > _ANSWERING_MAX:
                return 503, "text/plain", b"too many ask for metrics at a time\n"
            case b"/metrics":
                text = await self._print_metrics()
                return 200, "text/plain; version=0.0.4; charset=utf-8", text
            case b"/healthz":
                healthy, reason = self._health()
                return 200 if healthy else 503, "text/plain", f"{reason}\n".encode()
        return 404, "text/plain", b"there are /metrics and /healthz\n"


def _hear(printing: asyncio.Future[bytes]) -> None:
    if not printing.cancelled():
        printing.exception()


_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


def _write(writer: asyncio.StreamWriter, answer: _Answer) -> None:
    status, content_type, body = answer
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
