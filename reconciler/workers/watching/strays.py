"""Workers of an earlier daemon that serve and that no slot has: told, since nobody leads them.

A start finds workers by the runtime directory. One that was bound elsewhere is not found there, and
still has its listening sockets, which the service manager may have kept for us as well: a part of
the requests would be answered by what it was told last, in silence. It is not ended from here:
whose it is, only people know. To look at all processes of a machine costs something, so that it is
done when what decides has moved: which sockets we hold, and whom we lead. Called by
`reconciler.daemon`.
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

_TURN_S = 5.0
_TURN_WITHIN_S = 60.0
# One that is just being started is not known yet, so that it takes two looks to know a stray.
_LOOKS = 2
# Before each of those, and so many times as long as a look took: sockets may move all the time.
_SOON_S = 1.0
_SOON_SHARE = 500.0
# While nothing has moved, who took no name of a worker before may have done so.
_REST_SHARE = 5000.0
_REST_MAX_S = 60.0


class Strays:
    """Looks for them, among processes that are named like workers."""

    def __init__(self, supervisor: Supervisor, sockets: SocketTable, runtime_dir: Path) -> None:
        self._supervisor = supervisor
        self._sockets = sockets
        self._runtime_dir = runtime_dir
        self._decided_by: tuple[set[str], set[int]] | None = None
        self._seen: dict[int, int] = {}
        self._found: dict[int, int] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        looks_left, took_s, rested_at = 0, 0.0, 0.0
        clock = asyncio.get_running_loop().time
        while True:
            if self._has_moved():
                looks_left = _LOOKS
            soon_s = max(_SOON_S, min(_SOON_SHARE * took_s, _REST_MAX_S))
            heard_again_within(max(soon_s, _TURN_S) + _TURN_WITHIN_S)
            # The end of one is waited for: `reconciler.reporting.control.waiting`.
            is_due_soon = looks_left > 0 or bool(self._seen)
            await asyncio.sleep(soon_s if is_due_soon else until_turn(_TURN_S))
            if is_due_soon or clock() >= rested_at:
                took_s = await self._look()
                looks_left = max(looks_left - 1, 0)
                rested_at = clock() + min(_REST_SHARE * took_s, _REST_MAX_S)

    def told(self) -> list[str]:
        """Return a sentence for each."""
        return [
            f"process {pid} (kakehi-w{number}) serves what an earlier daemon told it, "
            f"and is led by nobody: end it: kill {pid}"
            for pid, number in sorted(self._found.items(), key=lambda each: each[1])
        ]

    def _has_moved(self) -> bool:
        before, self._decided_by = self._decided_by, (self._ours(), self._supervisor.processes())
        return self._decided_by != before

    def _ours(self) -> set[str]:
        """Our listening sockets, named as `/proc/PID/fd` does."""
        return {f"socket:[{os.fstat(each.fileno()).st_ino}]" for _, each in self._sockets.items()}

    async def _look(self) -> float:
        """Return the processor time that it took."""
        try:
            found, took_s = await asyncio.to_thread(self._serving, self._ours())
        except OSError:
            # Told by the start.
            return 0.0
        known = self._supervisor.processes()
        seen = {pid: number for pid, number in found.items() if pid not in known}
        before, self._found = self._found, {pid: seen[pid] for pid in seen.keys() & self._seen}
        self._seen = seen
        if self._found.keys() - before:
            for each in self.told():
                log.warning(each)
        return took_s

    def _serving(self, sockets: set[str]) -> tuple[dict[int, int], float]:
        began = time.thread_time()
        return lost_sockets.serving(self._runtime_dir, sockets), time.thread_time() - began
