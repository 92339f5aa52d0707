"""Workers of an earlier daemon that serve and that no slot has: told, since nobody leads them.

A start finds workers by the runtime directory. One that was bound elsewhere is not found there, and
still has its listening sockets, which the service manager may have kept for us as well: a part of
the requests would be answered by what it was told last, in silence. It is not ended from here:
whose it is, only people know. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from reconciler import log
from reconciler.parts import heard_again_within, until_turn
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.processes import lost_sockets
from reconciler.workers.slots.supervisor import Supervisor

_FIRST_S = 1.0
_TURN_S = 5.0
# It looks at all processes of the machine, and rests so many times as long as that took.
_PAUSE_SHARE = 5000.0
_PAUSE_MAX_S = 60.0
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
        turns, took_s = 0, 0.0
        while True:
            pause_s = max(_TURN_S, min(_PAUSE_SHARE * took_s, _PAUSE_MAX_S))
            heard_again_within(pause_s + _TURN_WITHIN_S)
            await asyncio.sleep(_FIRST_S if turns < 2 else until_turn(pause_s))
            took_s = await self._look()
            turns += 1

    def told(self) -> list[str]:
        """Return a sentence for each."""
        return [
            f"process {pid} (kakehi-w{number}) serves what an earlier daemon told it, "
            f"and is led by nobody: end it: kill {pid}"
            for pid, number in sorted(self._found.items(), key=lambda each: each[1])
        ]

    async def _look(self) -> float:
        """Return the processor time that it took."""
        ours = {f"socket:[{os.fstat(each.fileno()).st_ino}]" for _, each in self._sockets.items()}
        try:
            found, took_s = await asyncio.to_thread(self._serving, ours)
        except OSError:
            # Told by the start.
            return 0.0
        known = self._supervisor.processes()
        seen = {pid: number for pid, number in found.items() if pid not in known}
        # One that is just being started is not known yet: it will be at the next look.
        before, self._found = self._found, {pid: seen[pid] for pid in seen.keys() & self._seen}
        self._seen = seen
        if self._found.keys() - before:
            for each in self.told():
                log.warning(each)
        return took_s

    def _serving(self, sockets: set[str]) -> tuple[dict[int, int], float]:
        began = time.thread_time()
        return lost_sockets.serving(self._runtime_dir, sockets), time.thread_time() - began
