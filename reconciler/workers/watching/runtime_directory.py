"""The runtime directory while the daemon runs: its lock, the control socket, the workers' sockets.

Somebody may delete or replace it, such as a job that cleans up below `/run`. Then nobody finds the
daemon any more, no worker can be started, and a later daemon would adopt none. So it is looked at
every second and made anew. The socket of a worker that runs is bound by itself: it is told to, and
one that does not do it gets a successor, which is brought up first. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Protocol

from reconciler import log
from reconciler.errors import MachineError
from reconciler.parts import heard_again_within, until_turn
from reconciler.presence import is_directory
from reconciler.storage.file.place import holds_lock, lock_directory
from reconciler.workers.processes import lost_sockets
from reconciler.workers.processes.worker_sockets import WORKERS_DIRECTORY
from reconciler.workers.slots.supervisor import Supervisor

_MODE = 0o700
_LOOK_EVERY_S = 1.0
_LOOK_WITHIN_S = 30.0


class Control(Protocol):
    """The control socket."""

    @property
    def is_found(self) -> bool:
        """Whether somebody who connects comes to us."""

    def open(self) -> None:
        """Listens, also when it did before. Raises `MachineError`."""


class RuntimeDirectory:
    """The directory, locked from the start until `close`."""

    def __init__(self, path: Path) -> None:
        """Raises `MachineError` when another daemon has it, or it cannot be made."""
        self._path = path
        self.problem: str | None = None
        """Why it is not as it should be, for `status` and `/healthz`."""
        try:
            self._lock = lock_directory(path)
        except MachineError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            way_out = "--runtime-dir or KAKEHI_RUNTIME_DIR names another one"
            raise MachineError(f"{error}; {way_out}") from error.__cause__
        try:
            self._make()
        except MachineError:
            self.close()
            raise

    def close(self) -> None:
        """Gives the lock back."""
        os.close(self._lock)

    async def keep(self, control: Control, supervisor: Supervisor) -> None:
        """Until cancelled: makes anew what is gone."""
        while True:
            heard_again_within(_LOOK_WITHIN_S)
            await asyncio.sleep(until_turn(_LOOK_EVERY_S))
            try:
                self._restore()
                if not control.is_found:
                    control.open()
                    log.warning(
                        "the control socket is gone, it was made anew", directory=self._path
                    )
            except MachineError as error:
                self._tell(str(error))
                continue
            self._tell(None)
            if supervisor.unreachable():
                await self._regain(supervisor)

    def warnings(self, supervisor: Supervisor) -> list[str]:
        """What `status` has to say of the directory and of the sockets in it."""
        found = [self.problem] if self.problem else []
        return found + [
            f"worker {each.id}: its socket in {self._path} is gone, a later daemon could not adopt "
            "it: it is replaced"
            for each in supervisor.unreachable()
        ]

    def _restore(self) -> None:
        """Makes anew what is gone. Raises `MachineError`."""
        if not holds_lock(self._path, self._lock):
            # Whoever has made it meanwhile and runs there has the name; nothing of his is touched.
            lock, former = lock_directory(self._path), self._lock
            self._lock = lock
            os.close(former)
            self._make()
            log.warning("the runtime directory is gone, it was made anew", directory=self._path)
        elif not is_directory(self._path / WORKERS_DIRECTORY):
            self._make()
            log.warning("the workers' directory is gone, it was made anew", directory=self._path)

    def _make(self) -> None:
        try:
            self._path.chmod(_MODE)
            (self._path / WORKERS_DIRECTORY).mkdir(mode=_MODE, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            message = f"cannot use the runtime directory {self._path}: {reason}"
            raise MachineError(message) from error

    def _tell(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            log.error("nobody can reach the daemon", reason=problem)
        self.problem = problem

    async def _regain(self, supervisor: Supervisor) -> None:
        """Who does not bind its socket anew is replaced, one after the other, never in a commit."""
        told: dict[int, int] = {}
        with contextlib.suppress(OSError):
            # Else they are replaced, which is told.
            told = await asyncio.to_thread(lost_sockets.regain, self._path)
        if told:
            workers = ",".join(str(number) for number in sorted(told.values()))
            log.warning("sockets of workers are gone, they were made anew", workers=workers)
        lost = supervisor.unreachable()
        if lost and supervisor.complete and not supervisor.exclusive.locked():
            supervisor.replace(lost[0].id, "its control socket is gone")
