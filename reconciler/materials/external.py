"""Files outside of the repository that entities name: which of them differ from what runs.

A renewed certificate comes by such a file, often by a rename over it or over a symbolic link in its
path, so that what counts is what the path leads to now. One look costs a `stat` per file; contents
are read only when that differs from the last look. A thread does so, and a file that does not
answer is taken for what it was. Called by `reconciler.loop.reconcile` at every look; `directories`
are watched, so that a look comes at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from reconciler import log
from reconciler.errors import UnreadableError
from reconciler.materials.reading import SilentError, read_external
from reconciler.materials.sealed import SealedError
from reconciler.presence import found_at, is_directory
from reconciler.stalling import DOES_NOT_ANSWER, answer_of, looked_at

Signature = tuple[int, int, int, int, int]
"""What a file looks like without being read."""

_TOLD_MAX = 20
# Of more files than these a look comes when so many times what the last one took have passed.
_FEW = 500
_PAUSE_SHARE = 20.0

_Seen = tuple[Signature | None, frozenset[str]]


class _Glance(NamedTuple):
    """What a look has found, without having read anything."""

    seen: dict[str, _Seen]
    new: list[str]
    """Those that look otherwise than before, or are to have another content."""
    silent: set[str]
    directories: dict[Path, int]


class ExternalFiles:
    """Remembers what each file looked like, and which ones differ from what runs."""

    def __init__(self, opened: Callable[[bytes], bytes] = bytes) -> None:
        """`opened` gives what runs of a file's content."""
        self._opened = opened
        self._seen: dict[str, _Seen] = {}
        self._running: Mapping[str, frozenset[str]] | None = None
        self._again_at = 0.0
        self._wanted: dict[str, Signature | None] = {}
        self._unread: dict[str, str] = {}
        self._refusals: dict[str, str] = {}
        self._directories: dict[Path, int] = {}
        self.differing: frozenset[str] = frozenset()
        """Files with another content than runs."""
        self.silent: frozenset[str] = frozenset()
        """Files of which that is not known, since they do not answer."""

    async def look(self, running: Mapping[str, frozenset[str]]) -> bool:
        """Look at the files of the running state, given with the hashes that run.

        Tells whether one of them has got a content that differs from what runs. A file that is new
        here is read: it may have changed while no daemon ran, or while it was taken over. The same
        mapping stands for a state that has not changed.
        """
        if not (running or self._seen or self._wanted):
            return False
        now = time.monotonic()
        if running is self._running and now < self._again_at:
            return False
        found = await asyncio.to_thread(self._glance, running, tuple(self._wanted))
        took = time.monotonic() - now
        self._running, seen, self._directories = running, found.seen, found.directories
        digests = await asyncio.to_thread(self._digests, found.new) if found.new else {}
        differing = {path for path in self.differing if path in running}
        silent, changed = found.silent, False
        for path in found.new:
            if path not in digests:
                silent.add(path)
                if path in self._seen:
                    seen[path] = self._seen[path]
                else:
                    del seen[path]
                continue
            self._unread.pop(path, None)
            self._refusals.pop(path, None)
            digest = digests[path]
            # What somebody waits for and is not there holds what runs by it: nothing.
            if ({digest} if isinstance(digest, str) else set()) == running[path]:
                differing.discard(path)
                continue
            if not isinstance(digest, str):
                self._unread[path] = str(digest)
            differing.add(path)
            changed = True
        self._tell(frozenset(silent))
        self._seen, self.differing = seen, frozenset(differing)
        self._again_at = time.monotonic() + (took * _PAUSE_SHARE if len(running) > _FEW else 0.0)
        return changed

    def _glance(self, running: Mapping[str, frozenset[str]], wanted: tuple[str, ...]) -> _Glance:
        """What these files look like, in a thread: there may be very many."""
        # Those that did not answer come last.
        looks = looked_at(sorted(running, key=self.silent.__contains__), _signature)
        seen: dict[str, _Seen] = {}
        new: list[str] = []
        silent: set[str] = set()
        for path, held in running.items():
            before = self._seen.get(path)
            if path not in looks:
                silent.add(path)
                if before is not None:
                    seen[path] = before
                continue
            seen[path] = looks[path], held
            if seen[path] != before:
                new.append(path)
        # Whoever asks for a directory asks the one above it: what is in it is what may hang.
        named = {os.path.dirname(path) for path in (*looks, *wanted)}  # noqa: PTH120  # of thousands
        inodes = looked_at((f"{each}/." for each in sorted(named)), _inode)
        there = {Path(path): inode for path, inode in inodes.items() if inode is not None}
        return _Glance(seen, new, silent, there)

    def _tell(self, silent: frozenset[str]) -> None:
        if silent != self.silent:
            named = ",".join(sorted(silent ^ self.silent)[:_TOLD_MAX])
            doing = "files outside do not answer" if silent - self.silent else "files answer again"
            log.warning(doing, files=named)
        self.silent = silent

    def refused(self, paths: Iterable[str], reason: str) -> None:
        """What is in these files was not taken over; commits that come later do not change that."""
        self._refusals |= dict.fromkeys(self.differing.intersection(paths), reason)

    def told(self, *, waits: bool = False) -> list[str]:
        """What is to be said of the files that differ: the first of them, each with the reason.

        `waits`: none is taken over before a commit is applied.
        """
        paths = sorted(self.differing | self.silent)
        told = [f"{path}: {self._told(path, waits=waits)}" for path in paths[:_TOLD_MAX]]
        if (more := len(paths) - _TOLD_MAX) > 0:
            told.append(f"{more} more {'file is' if more == 1 else 'files are'} not taken over")
        return told

    def _told(self, path: str, *, waits: bool) -> str:
        reason = DOES_NOT_ANSWER if path in self.silent else self._unread.get(path)
        if reason is not None:
            return f"what it held before is served: {reason}"
        if waits:
            return (
                "what is served is not what the file has now, and will not be until a commit is "
                "applied: it is not known which one runs"
            )
        reason = self._refusals.get(path)
        return "what is served is not what the file has now" + (f": {reason}" if reason else "")

    def want(self, read: Mapping[str, Signature | None]) -> None:
        """Keep an eye on the files that a refused commit names: another content may mend it.

        Given with what they looked like right before they were read.
        """
        self._wanted = dict(read)

    async def wanted_has_come(self) -> bool:
        """Tell whether a file that a refused commit names looks different now; told once."""
        if not self._wanted:
            return False
        looks = await asyncio.to_thread(looked_at, self._wanted, _signature)
        came = any(look != self._wanted[path] for path, look in looks.items())
        if came:
            self._wanted = {}
        return came

    def _digests(self, paths: list[str]) -> dict[str, str | Exception]:
        """What counts of the content of each, or why it cannot be had."""
        digests: dict[str, str | Exception] = {}
        for path in paths:
            try:
                content = self._opened(read_external(path))
            except SilentError:
                continue
            except (UnreadableError, SealedError) as error:
                digests[path] = error
            else:
                digests[path] = hashlib.sha256(content).hexdigest()
        return digests

    def directories(self) -> dict[Path, int]:
        """Where these files lie, as far as the directories are there and answer: their inodes."""
        return self._directories


def signature_of(path: str) -> Signature | None:
    """What a file looks like; None if it cannot be looked at, or does not answer."""
    return answer_of(path, _signature, None)


def _signature(path: str) -> Signature | None:
    found = found_at(path)
    if found is None:
        return None
    # The time of the inode is another one also when nothing but the right to read it is.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _inode(path: str) -> int | None:
    found = found_at(path) if is_directory(path) else None
    return found.st_ino if found else None
