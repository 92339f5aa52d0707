"""Checkpoints: what is in the log of the state database is copied into its file, now and then.

In a thread, which a commit never waits for, and no more often than there is much to copy. Called by
`reconciler.storage.store` behind each commit.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from reconciler import faults, log
from reconciler.errors import MachineError
from reconciler.storage.file.database import Database

# Some hundred commits. The next start reads what is not copied yet.
DUE_BYTES = 8 * 1024 * 1024

# Of the index of the log: what is read of its head, and the pages that it counts.
_INDEX_BYTES = 100
# Both copies of the head.
_HEAD_BYTES = 96
PAGE_BYTES = 4096


class LogIndex:
    """How much is in the log of one open database; to be closed behind its connections.

    It stays open: when a process closes a file, the kernel takes back all locks that it has there
    (fcntl(2)), and those on the index of the log say that the database is in use. Without them the
    next process that opens it would begin a new index under this one.
    """

    def __init__(self, database: Database) -> None:
        self._path = database.index
        self._opened = -1
        self._length = 0
        self._is_closed = False
        database.guard = self.keep_length

    def keep_length(self) -> None:
        """Where somebody has cut it off, have SQLite make it anew: it is mapped into this process.

        Who reads behind the end of a file that is mapped is ended by SIGBUS.
        """
        if self._is_closed or (self._opened < 0 and not self._open()):
            return
        length = os.fstat(self._opened).st_size
        if length >= self._length:
            self._length = length
            return
        os.ftruncate(self._opened, self._length)
        # What is in the log is read again by whoever finds no head (§2.2).
        os.pwrite(self._opened, bytes(_HEAD_BYTES), 0)
        log.warning("the index of the state database's log was cut off, and is made anew")

    def _open(self) -> bool:
        with contextlib.suppress(OSError):
            self._opened = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        return self._opened >= 0

    @property
    def uncopied_bytes(self) -> int:
        """How much is in the log and not in the file, about.

        By the index (https://sqlite.org/walformat.html §2), since the log itself is as long as it
        ever was: what is copied is written over, and nothing makes it shorter.
        """
        counts = self._counts()
        return max(0, counts[0] - counts[1]) * PAGE_BYTES if counts else 0

    @property
    def frames(self) -> int | None:
        """How many frames SQLite has found in the log; None where that cannot be told."""
        counts = self._counts()
        return counts[0] if counts else None

    def _counts(self) -> tuple[int, int] | None:
        """How many frames are in the log, and how many of them are copied."""
        if self._opened < 0 and not self._open():
            return None
        try:
            head = os.pread(self._opened, _INDEX_BYTES, 0)
        except OSError:
            return None
        if len(head) < _INDEX_BYTES:
            return None
        frames, copied = (int.from_bytes(head[at : at + 4], sys.byteorder) for at in (16, 96))
        return frames, copied

    def close(self) -> None:
        """Give the descriptor back."""
        self._is_closed = True
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1


class Checkpoints:
    """Runs checkpoints in a thread, one at a time."""

    def __init__(self) -> None:
        self._running: threading.Thread | None = None

    def begin_if_due(self, database: Database, index: LogIndex) -> None:
        """Begin one when there is enough to copy."""
        if self._running is not None and self._running.is_alive():
            return
        if index.uncopied_bytes < DUE_BYTES:
            return
        thread = threading.Thread(target=_checkpoint, args=(database,), daemon=True)
        # Where the system has none to give, the next commit tries again.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._running = thread

    def finish(self) -> None:
        """Wait for the one that runs."""
        if self._running is not None:
            self._running.join()


def _checkpoint(database: Database) -> None:
    # Nothing depends on it, and the next commit tries again.
    with contextlib.suppress(OSError, MachineError):
        faults.point("checkpoint.begin")
        database.checkpoint()
        faults.point("checkpoint.end")
