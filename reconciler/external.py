"""Files outside of the repository that entities name: which of them have changed.

A renewed certificate comes by such a file, often by a rename over it or over a symbolic link in its
path, so that what counts is what the path leads to now. One look costs a `stat` per file; contents
are read only after that differs. Called by `reconciler.reconcile` at every look; `directories` are
watched, so that a look comes at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from reconciler.materials import UnreadableError, read_external

_Signature = tuple[int, int, int, int]


class ExternalFiles:
    """Remembers what each file looked like when it was last looked at."""

    def __init__(self) -> None:
        self._seen: dict[str, _Signature | None] = {}

    def changed(self, named: Iterable[tuple[str, str]]) -> frozenset[str]:
        """The files with another content than is served, out of (path, SHA-256 of what is served).

        A file that was not looked at before is read: it may have changed while no daemon ran, or
        since it was read for the state that names it.
        """
        found: set[str] = set()
        seen: dict[str, _Signature | None] = {}
        for path, digest in named:
            if not path.startswith("/"):
                continue
            # Taken before anything is read, so that a change in between is noticed next time.
            signature = seen[path] = _signature(path)
            known = path in self._seen
            if signature != self._seen.get(path) if known else _digest(path) != digest:
                found.add(path)
        self._seen = seen
        return frozenset(found)

    def directories(self) -> set[Path]:
        """Where these files lie."""
        return {Path(path).parent for path in self._seen}


def _signature(path: str) -> _Signature | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _digest(path: str) -> str | None:
    try:
        return hashlib.sha256(read_external(path)).hexdigest()
    except UnreadableError:
        return None
