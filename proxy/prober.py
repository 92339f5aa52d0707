"""The prober's process: takes from the reconciler who is checked, and tells it who turns.

One for a host, forked by the zygote as workers are, and pinned nowhere. The checks are made by a
thread of the engine (`probing/` there), whatever happens here: without a daemon it goes on, and
workers go on reading what it finds. One that nobody has ever spoken to ends, and so does one that
nobody speaks to while its socket is gone, since no daemon could find it. Called by `proxy.zygote`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
from pathlib import Path

import uvloop

from proxy.engine_api import ProberApi
from proxy.worker import take_name
from schemas.messages import probing
from schemas.messages.channel import Channel
from schemas.messages.files import identity, read_regular
from schemas.messages.frames import WireError
from schemas.messages.lines import STDERR

NAME = "kakehi-prober"
_CONNECTIONS_MAX = 4
_FLUSH_S = 1.0
# As a worker: a reconciler connects at once, and gives it up after 30 s.
_UNSPOKEN_S = 60.0
# How often it looks whether a daemon could find it, while none speaks to it.
_LOOK_S = 10.0
_PEERCRED = struct.Struct("3i")


def live(control_fd: int) -> int:
    """The life of the prober, in a process of its own; returns its exit code."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    take_name(NAME)
    try:
        control = socket.socket(fileno=control_fd)
        uvloop.run(_probe(ProberApi(), control))
    except Exception as error:  # noqa: BLE001  # no traceback, and no wait for who reads it
        STDERR.write(f"the prober cannot run: {str(error) or type(error).__name__}")
        return 1
    finally:
        STDERR.flush(_FLUSH_S)
    return 0


async def _probe(prober: ProberApi, control: socket.socket) -> None:
    shell = ProberShell(prober, control)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, shell.end)
    await shell.run()
    prober.end()


class ProberShell:
    """The prober's control side. `run` returns when it is to end."""

    def __init__(self, prober: ProberApi, control: socket.socket) -> None:
        self._prober = prober
        self._control = control
        self._path = Path(control.getsockname())
        self._loop = asyncio.get_running_loop()
        self._peers: set[Channel] = set()
        self._current: Channel | None = None
        self._epoch = 0
        self._moment = ""
        self._table: str | None = None
        self._turned: list[probing.Turn] = []
        self._sums = probing.Sums()
        self._ending: asyncio.Future[None] = self._loop.create_future()
        self._unspoken = self._loop.call_later(_UNSPOKEN_S, self.end)

    async def run(self) -> None:
        """Answers until told to end."""
        # Listening again makes SO_PEERCRED of whoever connects name this process.
        self._control.setblocking(False)
        self._control.listen(_CONNECTIONS_MAX)
        self._loop.add_reader(self._control.fileno(), self._accept)
        self._loop.add_reader(self._prober.bell, self._hear)
        looking = self._loop.create_task(self._look())
        await self._ending
        looking.cancel()
        self._unspoken.cancel()
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_reader(self._prober.bell)
        self._control.close()
        for peer in list(self._peers):
            self._close(peer)

    def end(self) -> None:
        """Asks `run` to return. Idempotent."""
        if not self._ending.done():
            self._ending.set_result(None)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._current is None and not await asyncio.to_thread(self._is_found):
                self.end()

    def _is_found(self) -> bool:
        """Whether a daemon that looks for us comes to us."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
            asking.settimeout(1.0)
            try:
                asking.connect(str(self._path))
                found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
            except (TimeoutError, BlockingIOError):
                return True
            except OSError:
                return False
            return int(_PEERCRED.unpack(found)[0]) == os.getpid()

    # Connections.

    def _accept(self) -> None:
        try:
            connection, _ = self._control.accept()
        except OSError:
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        if _PEERCRED.unpack(credentials)[1] not in (0, os.getuid()):
            connection.close()
            return
        if len(self._peers) >= _CONNECTIONS_MAX:
            connection.close()
            return
        peer = Channel(connection)
        self._peers.add(peer)
        self._loop.add_reader(peer.fileno(), self._read, peer)

    def _read(self, peer: Channel) -> None:
        try:
            bodies, closed = peer.receive()
            for body in bodies:
                message = probing.decode_to_prober(body)
                taken = peer.take_descriptors(1) if isinstance(message, probing.Table) else []
                try:
                    self._handle(peer, message, taken)
                finally:
                    for each in taken:
                        os.close(each)
        except (WireError, OSError) as error:
            STDERR.write(f"the prober closes its control connection: {error}")
            closed = True
        if closed:
            self._close(peer)

    def _close(self, peer: Channel) -> None:
        if peer not in self._peers:
            return
        self._peers.discard(peer)
        self._loop.remove_reader(peer.fileno())
        self._loop.remove_writer(peer.fileno())
        peer.close()
        if self._current is peer:
            self._current = None

    def _send(self, peer: Channel, message: probing.FromProber) -> None:
        if peer not in self._peers:
            return
        try:
            peer.send(probing.encode(message))
        except (WireError, OSError):
            self._close(peer)
            return
        if peer.has_outgoing:
            self._loop.add_writer(peer.fileno(), self._flush, peer)

    def _flush(self, peer: Channel) -> None:
        try:
            peer.flush()
        except OSError:
            self._close(peer)
            return
        if not peer.has_outgoing:
            self._loop.remove_writer(peer.fileno())

    # Messages.

    def _handle(self, peer: Channel, message: probing.ToProber, taken: list[int]) -> None:
        if isinstance(message, probing.Greeting):
            self._greet(peer, message)
            return
        if peer is not self._current:
            self._send(peer, probing.Outranked())
            self._close(peer)
            return
        match message:
            case probing.Table():
                self._send(peer, self._take_table(*taken))
            case probing.Check():
                self._send(peer, self._check(message))
            case probing.Report(names=names):
                self._send(peer, self._report(names))
            case probing.End():
                self.end()

    def _greet(self, peer: Channel, hello: probing.Greeting) -> None:
        if hello.epoch < self._epoch:
            self._send(peer, probing.Outranked())
            self._close(peer)
            return
        old, self._current, self._epoch = self._current, peer, hello.epoch
        self._unspoken.cancel()
        if old is not None and old is not peer:
            self._send(old, probing.Outranked())
            self._close(old)
        welcome = probing.Greeted(pid=os.getpid(), moment=self._moment, table=self._table)
        self._send(peer, welcome)

    def _take_table(self, descriptor: int) -> probing.TableTaken:
        try:
            self._prober.share(descriptor)
            self._table = identity(descriptor)
        except (OSError, ValueError) as error:
            return probing.TableTaken(problem=str(error))
        return probing.TableTaken()

    def _check(self, message: probing.Check) -> probing.Checking:
        self._moment = message.moment
        told = {
            "begins": message.begins,
            "ends": message.ends,
            "puts": [],
            "removes": message.removes,
        }
        text = json.dumps(told).replace('"puts": []', f'"puts": {message.puts}', 1)
        materials = _read_materials(Path(message.material_dir), message.materials)
        try:
            return probing.Checking(refused=self._prober.tell(text.encode(), materials))
        except ValueError as error:
            return probing.Checking(refused=[("", str(error))])

    def _report(self, names: list[str] | None) -> probing.Reported:
        self._take_news()
        found = json.loads(self._prober.report(names))
        rows = [probing.HealthRow(**each) for each in found.pop("rows")]
        return probing.Reported(rows=rows, sums=self._sums, **found)

    def _hear(self) -> None:
        lost = self._take_news()
        if self._current is not None:
            self._send(self._current, probing.Turned(turns=self._turned, lost=lost))
        # Whoever comes later asks how it is.
        self._turned = []

    def _take_news(self) -> int:
        news = json.loads(self._prober.take_news())
        self._sums = probing.Sums(**news["sums"])
        self._turned += [probing.Turn(**each) for each in news["turns"]]
        return int(news["lost"])


def _read_materials(directory: Path, wanted: list[str]) -> dict[str, bytes | None]:
    """What is missing or altered is left out; the engine names what misses it."""
    found: dict[str, bytes | None] = {}
    for digest in wanted:
        with contextlib.suppress(OSError):
            content = read_regular(directory / digest)
            if hashlib.sha256(content).hexdigest() == digest:
                found[digest] = content
    return found
