"""Whether the repository answers at all: asked in a thread, which may hang where we may not.

A file system that has stopped answering (a dead NFS server, a failing disk) blocks whoever asks it,
for hours if need be. libgit2 knows no time limit, so before each look a thread of its own reads
what the look begins with. While that hangs nothing else touches the repository: the running state
is held, workers serve, questions are answered, before each of which it is asked as well. What
begins to hang between the probe and the look is left to the service manager's watchdog. Called by
`reconciler.loop.newest`, and before what a start asks of a repository.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

from reconciler.patience import within
from reconciler.source.git.repository_errors import RepositoryError

ANSWER_S = 5.0

_Asked = SimpleQueue[Callable[[], object] | None]


class StalledError(RepositoryError):
    """The repository has not answered in time."""


class Probe:
    """One repository. `check` touches it; what it returns or raises does not matter."""

    def __init__(self, check: Callable[[], object], answer_s: float = ANSWER_S) -> None:
        self._check = check
        self._answer_s = answer_s
        self._pending: asyncio.Event | None = None
        # One thread for all looks: to start one takes longer than to look.
        self._asked: _Asked | None = None

    async def wait(self, within_s: float | None = None) -> None:
        """Returns when the repository has answered. Raises `StalledError`."""
        pending, patience_s = self._pending, within_s or self._answer_s
        if pending is None:
            pending = self._pending = asyncio.Event()
            self._ask(pending)
        try:
            async with within(patience_s):
                await pending.wait()
        except TimeoutError:
            raise StalledError(
                f"the repository has not answered in {patience_s:g} s: its file system hangs"
            ) from None
        # Another may have asked anew since.
        if self._pending is pending:
            self._pending = None

    def _ask(self, answered: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        check = self._check

        def run() -> None:
            try:
                check()
            except Exception:  # noqa: BLE001, S110  # an answer as well; the look finds it again
                pass
            finally:
                # The loop may have ended meanwhile.
                if not loop.is_closed():
                    loop.call_soon_threadsafe(answered.set)

        if self._asked is None:
            queue: _Asked = SimpleQueue()
            # Not the loop's own threads: the process waits for those at its end.
            thread = threading.Thread(target=_answer, args=(queue,), name="probe", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The system has none to give: nobody answers, and the next look tries again.
                return
            self._asked = queue
            weakref.finalize(self, self._asked.put, None)
        self._asked.put(run)


def answers(check: Callable[[], object], within_s: float) -> bool:
    """Whether a repository answers, for who has no event loop and may wait for so long."""

    def run() -> None:
        with contextlib.suppress(Exception):
            check()

    asked = threading.Thread(target=run, name="probe", daemon=True)
    try:
        asked.start()
    except RuntimeError:
        return False
    asked.join(within_s)
    return not asked.is_alive()


def _answer(asked: _Asked) -> None:
    """Do what is asked for, one after the other; None is the end."""
    while (work := asked.get()) is not None:
        work()
