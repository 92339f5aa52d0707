"""Sets of keys that were fetched, as files of the state directory.

A file's time is when it was fetched last, also where it was the same: so its age is known over
restarts. All of it is blocking, and one at a time: what an attempt that was given up still writes
meets nobody else's file. Called by `reconciler.issuers.keeping`, in threads.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from reconciler.durable import discard, make_own_directory, replace_durably, sync_directory
from reconciler.presence import found_at, is_directory, is_file
from schemas.messages.files import read_regular


class StoredKeys:
    """Those of one daemon."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turn = threading.Lock()

    def keep(self, path: Path, content: bytes) -> bool:
        """Write what was fetched; say whether it is something else. Raises `OSError`."""
        with self._turn:
            if _content(path) == content:
                # Not to know how old it is does no harm.
                with contextlib.suppress(OSError):
                    os.utime(path)
                return False
            make_own_directory(path.parent)
            replace_durably(path, content)
            return True

    def paths(self) -> list[str]:
        """Return what lies there. Raises `OSError`."""
        if not is_directory(self._directory):
            return []
        return [entry.path for entry in os.scandir(self._directory) if is_file(entry.path)]

    def remove(self, paths: Iterable[str]) -> None:
        """Take files away, to stay. Raises `OSError`."""
        with self._turn:
            for path in paths:
                discard(Path(path))
            if is_directory(self._directory):
                sync_directory(self._directory)


def fetched_at(path: str) -> datetime | None:
    """Return when what lies there was fetched last; None where nothing does."""
    found = found_at(path)
    return None if found is None else datetime.fromtimestamp(found.st_mtime, UTC)


def _content(path: Path) -> bytes | None:
    # Whatever else is there makes room for what was fetched.
    with contextlib.suppress(OSError):
        return read_regular(path)
    return None
