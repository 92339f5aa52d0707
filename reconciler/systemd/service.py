"""What the service manager is told, and what it keeps for us. Called by `reconciler.daemon`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from reconciler import log
from reconciler.parts import Parts
from reconciler.systemd import notify

# How often is looked for parts that hang, where no service manager says it.
_ROUND_S = 5.0
_ROUND_LATE_S = 1.0
# When a manager that had no room is told again, at first.
_REPEAT_S = 0.02


class Sockets(Protocol):
    """The listening sockets of all workers, by worker and address."""

    def adopt(self, worker: int, descriptor: int) -> str | None:
        """Takes one that was kept; returns its address, or None and closes it."""

    def items(self) -> Iterable[tuple[tuple[int, str], socket.socket]]:
        """All listening sockets."""


class Systemd:
    """Keeps systemd's picture of us true; does nothing without it.

    `line` gives what `systemctl status` shows.
    """

    def __init__(self, sockets: Sockets, parts: Parts, line: Callable[[], str]) -> None:
        self._sockets = sockets
        self._parts = parts
        self._line = line
        self._notifier = notify.Notifier()
        self._ready = False
        self._behind = asyncio.Event()

    def adopt_passed(self) -> None:
        """Takes the listening sockets that the manager kept while we were away."""
        held: dict[str, int] = {}
        for name, descriptor in notify.take_passed(os.environ):
            worker = notify.worker_of(name)
            address = None
            if worker is not None:
                address = self._sockets.adopt(worker, descriptor)
            else:
                os.close(descriptor)
            if address is not None:
                held[name] = descriptor
        if held:
            log.info("took over listening sockets from the service manager", count=len(held))
        self._notifier.assume_stored(held)

    def store_sockets(self) -> None:
        """Makes the manager keep the sockets that there are."""
        if self._notifier.active:
            items = self._sockets.items()
            self._notifier.store({notify.socket_name(*key): each.fileno() for key, each in items})
            self._told()

    def ready(self) -> None:
        """Tell that the start is over; called once."""
        self._notifier.ready()
        self._ready = True
        self.tell()

    def stopping(self) -> None:
        """Tell that the daemon ends."""
        self._notifier.stopping()

    def tell(self) -> None:
        """Tell the line that `systemctl status` shows."""
        self._notifier.status(self._line())
        self._told()

    async def repeat(self) -> None:
        """Tells the manager again what it had no room for: soon, then less and less often."""
        while True:
            await self._behind.wait()
            pause_s = _REPEAT_S
            while self._notifier.is_behind:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _ROUND_S)
                self._notifier.flush()
            self._behind.clear()

    def _told(self) -> None:
        if self._notifier.is_behind:
            self._behind.set()

    async def watchdog(self) -> None:
        """Signs of life, for as long as the loop turns and no part hangs."""
        interval = notify.watchdog_interval_s(dict(os.environ))
        hanging: list[str] = []
        loop = asyncio.get_running_loop()
        woken = loop.time()
        while True:
            before, hanging = hanging, self._parts.overdue()
            # A process that was stopped finds everybody late, itself too: they get this round.
            if not hanging or loop.time() - woken > _ROUND_LATE_S:
                self._notifier.alive()
                self._told()
            elif hanging != before:
                log.error("parts of the daemon hang", parts=",".join(hanging))
            woken = loop.time() + (interval or _ROUND_S)
            await asyncio.sleep(interval or _ROUND_S)
