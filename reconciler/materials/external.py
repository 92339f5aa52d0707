"""Files outside of the repository that entities name: which of them differ from what runs.

A renewed certificate comes by such a file, often by a rename over it or over a symbolic link in its
path, so that what counts is what the path leads to now. One look costs a `stat` per file; contents
are read only when that differs from the last look. Called by `reconciler.loop.reconcile` at every
look; `directories` are watched, so that a look comes at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from reconciler.errors import UnreadableError
from reconciler.materials.reading import read_external
from reconciler.materials.sealed import SealedError
from reconciler.presence import found_at, is_directory

Signature = tuple[int, int, int, int, int]
"""What a file looks like without being read."""

_TOLD_MAX = 20


class ExternalFiles:
    """Remembers what each file looked like, and which ones differ from what runs."""

    def __init__(self, opened: Callable[[bytes], bytes] = bytes) -> None:
        """`opened` gives what runs of a file's content."""
        self._opened = opened
        self._seen: dict[str, tuple[Signature | None, frozenset[str]]] = {}
        self._wanted: dict[str, Signature | None] = {}
        self._unread: dict[str, str] = {}
        self._refusals: dict[str, str] = {}
        self.differing: frozenset[str] = frozenset()
        """Files with another content than runs."""

    def look(self, running: Mapping[str, frozenset[str]]) -> bool:
        """Look at the files of the running state, given with the hashes that run.

        Tells whether one of them has got a content that differs from what runs. A file that is new
        here is read: it may have changed while no daemon ran, or while it was taken over.
        """
        differing = set(self.differing & running.keys())
        changed = False
        seen: dict[str, tuple[Signature | None, frozenset[str]]] = {}
        for path, held in running.items():
            seen[path] = signature_of(path), held
            if self._seen.get(path) == seen[path]:
                continue
            self._unread.pop(path, None)
            self._refusals.pop(path, None)
            if self._digests(path) == held:
                differing.discard(path)
            else:
                differing.add(path)
                changed = True
        self._seen, self.differing = seen, frozenset(differing)
        return changed

    def refused(self, paths: Iterable[str], reason: str) -> None:
        """What is in these files was not taken over; commits that come later do not change that."""
        self._refusals |= dict.fromkeys(self.differing.intersection(paths), reason)

    def told(self) -> list[str]:
        """What is to be said of the files that differ: the first of them, each with the reason."""
        paths = sorted(self.differing)
        told = [f"{path}: {self._told(path)}" for path in paths[:_TOLD_MAX]]
        if (more := len(paths) - _TOLD_MAX) > 0:
            told.append(f"{more} more {'file is' if more == 1 else 'files are'} not taken over")
        return told

    def _told(self, path: str) -> str:
        if (reason := self._unread.get(path)) is not None:
            return f"what it held before is served: {reason}"
        reason = self._refusals.get(path)
        return "what is served is not what the file has now" + (f": {reason}" if reason else "")

    def want(self, read: Mapping[str, Signature | None]) -> None:
        """Keep an eye on the files that a refused commit names: another content may mend it.

        Given with what they looked like right before they were read.
        """
        self._wanted = dict(read)

    def wanted_has_come(self) -> bool:
        """Tell whether a file that a refused commit names looks different now; told once."""
        came = any(signature_of(path) != seen for path, seen in self._wanted.items())
        if came:
            self._wanted = {}
        return came

    def _digests(self, path: str) -> frozenset[str]:
        try:
            content = self._opened(read_external(path))
        except (UnreadableError, SealedError) as error:
            self._unread[path] = str(error)
            return frozenset()
        return frozenset({hashlib.sha256(content).hexdigest()})

    def directories(self) -> set[Path]:
        """Where these files lie, as far as the directories are there."""
        named = {Path(path).parent for path in (*self._seen, *self._wanted)}
        return {directory for directory in named if is_directory(directory)}


def signature_of(path: str) -> Signature | None:
    """What a file looks like; None if it cannot be looked at."""
    found = found_at(path)
    if found is None:
        return None
    # The time of the inode is another one also when nothing but the right to read it is.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
