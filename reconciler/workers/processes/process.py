"""A worker's process: our child, or one that an earlier daemon left running.

Known by a pidfd, so that a number that was given to another process meanwhile is never signalled.
Called by `reconciler.workers.slots.tending`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from reconciler.patience import within


class Process:
    """A worker's process, a child or an adopted one."""

    def __init__(self, pid: int, *, is_child: bool = False) -> None:
        self.pid = pid
        self._is_child = is_child
        self._exit_code: int | None = None
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = -1
        except OSError:
            # Without descriptors it cannot be watched, and nobody else knows of it.
            if is_child:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            raise
        self._ended = asyncio.Event()
        if self._pidfd >= 0:
            asyncio.get_running_loop().add_reader(self._pidfd, self._on_ended)
        else:
            self._on_ended()

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.is_set()

    @property
    def stopped(self) -> bool:
        """Whether somebody holds it by SIGSTOP."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (OSError, IndexError):
            return False

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for its end; whether it came in time."""
        try:
            async with within(timeout_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it is still there."""
        if self._pidfd >= 0 and self.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def kill(self) -> None:
        """Ends it now."""
        self.signal(signal.SIGKILL)
        await self._ended.wait()

    @property
    def was_killed(self) -> bool:
        """Whether somebody ended it, as far as is known; one that is no child says nothing."""
        code = self._exit_code
        return not self.alive and code in (None, -signal.SIGKILL, -signal.SIGTERM)

    def exit_text(self) -> str:
        """How a child ended, as far as it is known."""
        code = self._exit_code
        if code is None:
            return "it ended"
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"

    def forget(self) -> None:
        """Stops watching; the process goes on."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _on_ended(self) -> None:
        if self._is_child:
            with contextlib.suppress(ChildProcessError):
                self._exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.forget()
        self._ended.set()
