"""The shell: takes the reconciler's messages, has each answered, and knows who may give any.

One message after another, whoever sent it, so that the engine sees one order. A connection of a
higher epoch takes the place of an older one; a lost connection changes nothing but that a change
which was on its way is dropped: the worker goes on serving what it committed last. One that nobody
has ever spoken to serves nothing, and ends: a reconciler that gave its start up does not know of
it. There is no other timer but that of drains which end: an idle worker is not woken by its shell.
What a message has the engine do is in `replies` beside. Called by `proxy.worker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

from proxy.engine_api import EngineApi
from proxy.replies import Replies
from schemas.messages import wire
from schemas.messages.channel import Channel
from schemas.messages.frames import WireError
from schemas.messages.lines import STDERR

# A SIGTERM from outside carries no drain time; requests get what `drain_timeout` has by default.
SIGNAL_DRAIN_MS = 30_000
_CONNECTIONS_MAX = 8
# Some dozen operations, which the engine stages and checks in less than a millisecond.
_SHORT_CHARS = 4 * 1024
# A reconciler connects as soon as it has forked a worker, and gives it up after 30 s.
_UNSPOKEN_S = 60.0
# So soon it is tried again when there was no descriptor to accept with.
_AGAIN_S = 0.05
# A step that takes longer than a second says so each second, and for no longer than ten minutes.
_WORKING_EVERY_S = 1.0
_WORKING_MAX = 600
_PEERCRED = struct.Struct("3i")
_P = ParamSpec("_P")


@dataclass(eq=False, slots=True)
class _Peer:
    """One connection; `epoch` is None until its hello."""

    channel: Channel
    epoch: int | None = None
    protocol: int = wire.PROTOCOL
    closed: bool = False


class Shell:
    """One worker's control side. `run` returns when the worker is to end."""

    def __init__(
        self,
        worker: int,
        cpu: int,
        engine: EngineApi,
        control: socket.socket,
        *,
        unspoken_s: float = _UNSPOKEN_S,
    ) -> None:
        self._worker = worker
        self._cpu = cpu
        self._engine = engine
        self._control = control
        # Clients may take all descriptors; a reconciler that connects then gets this one.
        self._spare: int | None = os.dup(control.fileno())
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_stray)
        self._peers: set[_Peer] = set()
        self._current: _Peer | None = None
        self._epoch = 0
        self._replies = Replies(engine)
        # What is staged is little.
        self._is_short = False
        # An audit is under way, and whoever asks something ends it.
        self._gives_way = False
        # None instead of a message: the connection has ended.
        self._inbox: asyncio.Queue[tuple[_Peer, wire.ToWorker | None, list[int]]] = asyncio.Queue()
        self._ending: asyncio.Future[int] = self._loop.create_future()
        self._unspoken = self._loop.call_later(unspoken_s, self.end, 0)

    async def run(self) -> None:
        """Serves until told to end, then drains."""
        # Listening again makes SO_PEERCRED of whoever connects name this process.
        self._control.setblocking(False)
        self._control.listen(_CONNECTIONS_MAX)
        self._loop.add_reader(self._control.fileno(), self._accept)
        handling = self._loop.create_task(self._handle_all())
        handling.add_done_callback(self._handling_ended)
        drain_ms = await self._ending
        self._unspoken.cancel()
        handling.cancel()
        self._replies.drained.stop()
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        if self._current is not None:
            self._send(self._current, wire.Leaving())
        await asyncio.to_thread(self._engine.shutdown, drain_ms)
        for peer in list(self._peers):
            self._close(peer)

    def end(self, drain_ms: int) -> None:
        """Asks `run` to return. Idempotent."""
        if not self._ending.done():
            self._ending.set_result(drain_ms)

    def bind_anew(self) -> None:
        """Listens in its place again, when somebody has taken the directory away."""
        # A successor was bound elsewhere, and has its predecessor's place since.
        path = Path(self._control.getsockname()).with_suffix(".sock")
        if path.exists() or self._ending.done():
            return
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            control.bind(str(path))
            path.chmod(0o600)
            control.setblocking(False)
            control.listen(_CONNECTIONS_MAX)
        except OSError as error:
            control.close()
            _say(f"worker {self._worker}: cannot bind {path} anew: {error.strerror or error}")
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._control = control
        self._loop.add_reader(control.fileno(), self._accept)

    # Connections.

    def _accept(self) -> None:
        connection = self._accepted()
        if connection is None:
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        _, uid, _ = _PEERCRED.unpack(credentials)
        if uid not in (0, os.getuid()) or len(self._peers) >= _CONNECTIONS_MAX:
            connection.close()
            return
        peer = _Peer(Channel(connection))
        self._peers.add(peer)
        self._loop.add_reader(peer.channel.fileno(), self._read, peer)

    def _accepted(self) -> socket.socket | None:
        for _ in range(2):
            try:
                return self._control.accept()[0]
            except (BlockingIOError, ConnectionError):
                return None
            except OSError:
                if self._spare is None:
                    break
                os.close(self._spare)
                self._spare = None
        self._loop.remove_reader(self._control.fileno())
        self._loop.call_later(_AGAIN_S, self._accept_again)
        return None

    def _accept_again(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.add_reader(self._control.fileno(), self._accept)

    def _read(self, peer: _Peer) -> None:
        try:
            bodies, closed = peer.channel.receive()
            for body in bodies:
                message = wire.decode_to_worker(body)
                descriptors: list[int] = []
                if isinstance(message, wire.Prepare | wire.Serve) and message.sockets:
                    descriptors = peer.channel.take_descriptors(len(message.sockets))
                elif isinstance(message, wire.RateTable | wire.HealthTable):
                    descriptors = peer.channel.take_descriptors(1)
                self._inbox.put_nowait((peer, message, descriptors))
                if self._gives_way:
                    self._engine.end_audit()
        except (WireError, OSError) as error:
            _say(f"worker {self._worker}: closing the control connection: {error}")
            self._close(peer)
            return
        if closed:
            self._close(peer)

    def _send(
        self, peer: _Peer, message: wire.FromWorker, descriptors: list[int] | None = None
    ) -> None:
        if peer.closed:
            return
        try:
            peer.channel.send(wire.encode(message), descriptors)
        except (WireError, OSError):
            self._close(peer)
            return
        if peer.channel.has_outgoing:
            self._loop.add_writer(peer.channel.fileno(), self._flush, peer)

    def _flush(self, peer: _Peer) -> None:
        try:
            peer.channel.flush()
        except OSError:
            self._close(peer)
            return
        if not peer.channel.has_outgoing:
            self._loop.remove_writer(peer.channel.fileno())

    def _close(self, peer: _Peer) -> None:
        if peer.closed:
            return
        peer.closed = True
        self._loop.remove_reader(peer.channel.fileno())
        self._loop.remove_writer(peer.channel.fileno())
        peer.channel.close()
        self._peers.discard(peer)
        if self._spare is None:
            with contextlib.suppress(OSError):
                self._spare = os.dup(self._control.fileno())
        if self._current is peer:
            self._current = None
            self._inbox.put_nowait((peer, None, []))

    # Messages.

    async def _handle_all(self) -> None:
        while True:
            peer, message, descriptors = await self._inbox.get()
            try:
                if message is None:
                    await self._forget_incoming()
                elif not peer.closed:
                    await self._handle(peer, message, descriptors)
            finally:
                for each in descriptors:
                    os.close(each)

    async def _forget_incoming(self) -> None:
        """Its rest will not come: whoever connects next begins anew."""
        if self._current is None:
            await asyncio.to_thread(self._engine.drop_incoming)

    def _handling_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (failure := task.exception()) is None:
            return
        self._fail(failure)

    def _on_stray(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed, such as one that reads messages: what it did not do is lost."""
        failure = context.get("exception")
        if isinstance(failure, Exception):
            self._fail(failure)
        else:
            _say(f"worker {self._worker}: {context.get('message')}")

    def _fail(self, failure: BaseException) -> None:
        # What it holds is unknown now: a successor at the committed generation is the remedy.
        self.end(0)
        reason = f"{type(failure).__name__}: {failure}"
        _say(f"worker {self._worker}: internal error: {reason}")
        if self._current is not None:
            self._send(self._current, wire.Failed(reason=reason))

    async def _handle(self, peer: _Peer, message: wire.ToWorker, descriptors: list[int]) -> None:
        if isinstance(message, wire.Hello):
            self._greet(peer, message)
            return
        if peer is not self._current or peer.protocol != wire.PROTOCOL:
            self._send(peer, wire.Stale(epoch=self._epoch))
            self._close(peer)
            return
        reply: wire.FromWorker
        match message:
            case wire.Stage():
                # One chunk of a few entities takes less than a thread takes to begin.
                is_first = message.number == 0 and not message.materials
                self._is_short = is_first and len(message.ops) <= _SHORT_CHARS
                if self._is_short:
                    reply = self._replies.stage(message)
                else:
                    reply = await self._work(peer, self._replies.stage, message)
            case wire.Prepare() if self._is_short:
                reply = self._replies.prepare(message, descriptors)
            case wire.Prepare():
                reply = await self._work(peer, self._replies.prepare, message, descriptors)
            case wire.Serve() | wire.RateTable() | wire.HealthTable():
                reply = self._replies.take(message, descriptors)
            case wire.Audit():
                reply = await self._audit(message)
            case wire.Recite():
                reply = await asyncio.to_thread(self._replies.recite, message)
            case wire.Shutdown():
                self.end(message.drain_ms)
                return
            case _:
                reply = self._replies.quick(message)
        self._send(peer, reply)

    async def _work(
        self, peer: _Peer, step: Callable[_P, wire.FromWorker], *args: _P.args, **more: _P.kwargs
    ) -> wire.FromWorker:
        """Do in a thread what may take long, and say meanwhile that we are at it."""
        working = asyncio.ensure_future(asyncio.to_thread(step, *args, **more))
        for _ in range(_WORKING_MAX):
            done, _ = await asyncio.wait([working], timeout=_WORKING_EVERY_S)
            if done:
                break
            self._send(peer, wire.Working())
        return await working

    def _greet(self, peer: _Peer, hello: wire.Hello) -> None:
        if hello.epoch < self._epoch:
            self._send(peer, wire.Stale(epoch=self._epoch))
            self._close(peer)
            return
        old, self._current = self._current, peer
        self._epoch = peer.epoch = hello.epoch
        self._unspoken.cancel()
        peer.protocol = hello.protocol
        if old is not None and old is not peer:
            self._send(old, wire.Stale(epoch=self._epoch))
            self._close(old)
        held = self._engine.held()
        listeners = self._engine.listener_fds()
        welcome = wire.Welcome(
            worker=self._worker,
            pid=os.getpid(),
            cpu=self._cpu,
            generation=held.generation,
            commit=held.commit,
            digest=held.digest,
            staged=held.staged,
            listeners=list(listeners),
            serving=self._replies.serving,
            rate_table=self._replies.rate_table,
            health_table=self._replies.health_table,
            without=sorted(self._replies.without),
            protocol=wire.PROTOCOL,
        )
        self._send(peer, welcome, [self._engine.metrics_fd, *listeners.values()])

    async def _audit(self, message: wire.Audit) -> wire.Audited | wire.AuditEnded:
        """What is held. It takes a while, and a commit does not wait for it."""
        self._gives_way = not message.to_the_end
        try:
            if self._gives_way and not self._inbox.empty():
                return wire.AuditEnded()
            self._engine.begin_audit()
            found = await asyncio.to_thread(self._engine.audited)
        finally:
            self._gives_way = False
        if found is None:
            return wire.AuditEnded()
        return wire.Audited(
            generation=found.generation, digest=found.digest, differing=found.differing
        )


def _say(line: str) -> None:
    STDERR.write(line.replace("\n", " "))
