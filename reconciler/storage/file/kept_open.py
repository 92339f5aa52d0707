"""Reads the database's file beside SQLite, without taking its locks away.

When a process closes a file, the kernel takes back all locks that it has there (fcntl(2)), whoever
has opened it. Without them the next process that closes the database would think that it was the
last one, and remove the log under ours. So what is opened here stays open. Called by
`reconciler.storage.file.database`.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

_READ_BYTES = 1024 * 1024


class KeptOpen:
    """One file, by its path; closed when another one is there, or nobody knows of this any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = -1
        self._opening = threading.Lock()
        self._close: weakref.finalize[[int], KeptOpen] | None = None

    def beginning(self, size: int) -> bytes:
        """The first bytes. Raises `OSError`."""
        return os.pread(self._descriptor(), size, 0)

    def parts(self) -> Iterator[bytes]:
        """All of it, part by part; nothing of what is no file. Raises `OSError`."""
        opened, at = self._descriptor(), 0
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return
        while part := os.pread(opened, _READ_BYTES, at):
            at += len(part)
            yield part

    def _descriptor(self) -> int:
        # Threads read it as well.
        with self._opening:
            found = self._path.stat()
            if self._opened < 0 or not os.path.samestat(found, os.fstat(self._opened)):
                # A pipe in its place must not be waited for.
                opened = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                if self._close is not None:
                    self._close()
                self._opened = opened
                self._close = weakref.finalize(self, os.close, opened)
            return self._opened
