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
from schemas.entity import Entity
from schemas.material import materials_of

_Signature = tuple[int, int, int, int]


class ExternalFiles:
    """Remembers of each file what it looked like, and the content that the running state has."""

    def __init__(self, running: Iterable[Entity]) -> None:
        self._seen: dict[str, _Signature | None] = {}
        # A file may have changed while no daemon ran.
        self._restored = {
            material.path: material.sha256
            for entity in running
            for material in materials_of(entity)
            if material.path.startswith("/")
        }

    def changed(self, named: Iterable[str]) -> frozenset[str]:
        """The files that look different since the last call, or since before a restart."""
        found: set[str] = set()
        seen: dict[str, _Signature | None] = {}
        for path in named:
            if not path.startswith("/"):
                continue
            signature = seen[path] = _signature(path)
            if path in self._seen:
                if signature != self._seen[path]:
                    found.add(path)
            elif path in self._restored and _digest(path) != self._restored[path]:
                found.add(path)
        self._seen, self._restored = seen, {}
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
