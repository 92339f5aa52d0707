"""Workers of an earlier daemon that serve and that no slot has: told, since nobody leads them.

A start finds workers by the runtime directory. One that was bound elsewhere is not found there, and
still has its listening sockets, which the service manager may have kept for us as well: a part of
the requests would be answered by what it was told last, in silence. It is not ended from here:
whose it is, only people know. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import os
from itertools import chain, repeat
from pathlib import Path

from reconciler import log
from reconciler.parts import heard_again_within
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.processes import lost_sockets
from reconciler.workers.slots.supervisor import Supervisor

_FIRST_S = 1.0
_TURN_S = 5.0
_TURN_WITHIN_S = 60.0


class Strays:
    """Looks for them, among processes that are named like workers."""

    def __init__(self, supervisor: Supervisor, sockets: SocketTable, runtime_dir: Path) -> None:
        self._supervisor = supervisor
        self._sockets = sockets
        self._runtime_dir = runtime_dir
        self._seen: dict[int, int] = {}
        self._found: dict[int, int] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        for pause_s in chain((_FIRST_S, _FIRST_S), repeat(_TURN_S)):
            heard_again_within(_TURN_WITHIN_S)
            await asyncio.sleep(pause_s)
            await self._look()

    def told(self) -> list[str]:
        """Return a sentence for each."""
        return [
            f"process {pid} (kakehi-w{number}) serves what an earlier daemon told it, "
            f"and is led by nobody: end it: kill {pid}"
            for pid, number in sorted(self._found.items(), key=lambda each: each[1])
        ]

    async def _look(self) -> None:
        ours = {f"socket:[{os.fstat(each.fileno()).st_ino}]" for _, each in self._sockets.items()}
        try:
            found = await asyncio.to_thread(lost_sockets.serving, self._runtime_dir, ours)
        except OSError:
            # Told by the start.
            return
        known = self._supervisor.processes()
        seen = {pid: number for pid, number in found.items() if pid not in known}
        # One that is just being started is not known yet: it will be at the next look.
        before, self._found = self._found, {pid: seen[pid] for pid in seen.keys() & self._seen}
        self._seen = seen
        if self._found.keys() - before:
            for each in self.told():
                log.warning(each)
