"""The history: what became of each commit, one line of JSON each, for people.

The lines lie on the disk and in memory is only where each of them begins, so that neither commits
of thousands of changes nor their number make the daemon larger. Not part of the state: losing its
end in a power cut loses a line of the story and nothing else. Called by
`reconciler.reporting.outcomes` (add), and by whoever asks what became of a commit.
"""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from reconciler import log
from reconciler.durable import rename_durably, replace_durably
from reconciler.presence import is_there
from schemas.control import DrainEvent, HistoryEntry

ENTRIES_MAX = 1000
# Of a commit that changes more, the count is kept.
CHANGES_MAX = 1000
ENTRY_BYTES_MAX = 256 * 1024
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""What is read for one question; of entries beyond it the changes are left out."""
OF_COMMITS = frozenset(("applied", "unchanged", "refused", "superseded"))
"""The outcomes of commits; the others are what happened while one ran."""
_TEXT_CHARS_MAX = 4000
_FILE_BYTES_MAX = 16 * 1024 * 1024
_TOLD_ONCE = ("refused", "not_renewed")
_KEYS = frozenset(
    ("at", "commit", "outcome", "generation", "duration_ms", "change_count", "changes")
)
_CHECK = b',"check":"%s"'
_CHECK_BYTES = len(_CHECK % (b"0" * 16) + b"}\n")
_TOLD = ("commit", "outcome", "generation", "message")


class _File:
    """An open file of lines; it can be read also after somebody took it away."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def is_at(self, path: Path) -> bool:
        """Whether it is what lies there."""
        ours = os.fstat(self.descriptor)
        try:
            found = path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


@dataclass(frozen=True, slots=True)
class _Line:
    """Where an entry is, and what of it decides whether another is the same."""

    commit: str
    told: int
    of_commit: bool
    of_drains: bool
    file: _File | None
    start: int
    length: int
    kept: HistoryEntry | None = None
    """The entry itself, without its changes, if it could not be written."""

    def read(self, *, whole: bool = True) -> HistoryEntry | None:
        """The entry; None when it can no longer be read."""
        if self.file is None:
            return self.kept
        try:
            found = _decode(os.pread(self.file.descriptor, self.length, self.start))
        except OSError:
            return None
        if found is not None and not whole:
            found["changes"] = []
        return found


class History:
    """The newest entries, which lie in the last two files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: deque[_Line] = deque(maxlen=ENTRIES_MAX)
        self._file: _File | None = None
        # What a power cut left of a line must not spoil the next one.
        self._start = b""
        for each in (path.with_suffix(".old"), path):
            with contextlib.suppress(OSError):
                self._file = self._opened(each, os.O_RDWR)
                self._lines.extend(self._found(self._file))

    def add(self, entry: HistoryEntry) -> None:
        """Appends; the same refusal after a restart is not told twice."""
        last = self._lines[-1] if self._lines else None
        if entry["outcome"] in _TOLD_ONCE and last is not None and last.told == _told(entry):
            return
        line = _encoded(entry)
        try:
            file, start = self._append(line)
        except OSError as error:
            log.warning("cannot write the history", reason=error.strerror or error)
            self._lines.append(_line(entry, None, 0, 0, kept=_without_changes(entry)))
            return
        self._lines.append(_line(entry, file, start, len(line)))

    def write(self) -> None:
        """Writes what there was, after the file was lost. Raises `OSError`."""
        if is_there(self._path):
            return
        entries = [found for line in self._lines if (found := line.read(whole=False))]
        replace_durably(self._path, b"".join(map(_encoded, entries)))
        self._file = self._opened(self._path, os.O_RDWR)
        self._lines = deque(self._found(self._file), maxlen=ENTRIES_MAX)

    def newest(self, limit: int) -> list[HistoryEntry]:
        """What became of commits, newest first."""
        found: list[HistoryEntry] = []
        left = ANSWER_BYTES_MAX
        for line in reversed(self._lines):
            if len(found) >= limit:
                break
            if line.of_drains:
                continue
            left -= line.length
            entry = line.read(whole=left >= 0)
            if entry is not None:
                found.append(entry)
        return found

    def drains(self, since: str) -> list[DrainEvent]:
        """What became of drains since a moment, newest first."""
        lines = (line for line in reversed(self._lines) if line.of_drains)
        found = (entry for line in lines if (entry := line.read()) and entry["at"] >= since)
        return [
            {
                "at": each["at"],
                "outcome": each["outcome"],
                "backends": each["backends"],
                "owner": each["author"],
                "expires_at": each.get("expires_at"),
                "commit": each["commit"],
            }
            for each in found
        ]

    def has(self, commit: str) -> bool:
        """Whether anything is told of a commit."""
        return any(line.of_commit and line.commit == commit for line in self._lines)

    def find(self, commit: str) -> HistoryEntry | None:
        """The newest entry that says what became of a commit."""
        about = (each for each in reversed(self._lines) if each.of_commit)
        lines = (each for each in about if each.commit == commit)
        return next((found for line in lines if (found := line.read())), None)

    def _append(self, line: bytes) -> tuple[_File, int]:
        if self._file is None or not self._file.is_at(self._path):
            self._file = self._opened(self._path, os.O_RDWR | os.O_CREAT)
        file = self._file
        end = os.lseek(file.descriptor, 0, os.SEEK_END)
        if end > _FILE_BYTES_MAX:
            self._rotate(file)
            return self._append(line)
        content = self._start + line
        try:
            if os.pwrite(file.descriptor, content, end) != len(content):
                raise OSError(28, os.strerror(28))
        except OSError:
            # Half a line would spoil the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(file.descriptor, end)
            raise
        start, self._start = end + len(self._start), b""
        return file, start

    def _rotate(self, full: _File) -> None:
        """The file becomes the former one, and what was that is forgotten."""
        rename_durably(self._path, self._path.with_suffix(".old"))
        kept = [line for line in self._lines if line.file in (None, full)]
        self._lines = deque(kept, maxlen=ENTRIES_MAX)
        self._file, self._start = None, b""

    def _opened(self, path: Path, flags: int) -> _File:
        # Whatever the umask is, and whoever made it: it tells what was configured.
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o600)
        return _File(descriptor)

    def _found(self, file: _File) -> Iterator[_Line]:
        """The lines of a file that is there already."""
        places: deque[tuple[int, int]] = deque(maxlen=ENTRIES_MAX)
        position, content = 0, b"\n"
        with os.fdopen(os.dup(file.descriptor), "rb") as opened:
            for content in iter(lambda: opened.readline(_FILE_BYTES_MAX), b""):
                places.append((position, len(content)))
                position += len(content)
        self._start = b"" if content.endswith(b"\n") else b"\n"
        damaged = 0
        for start, length in places:
            entry = _decode(os.pread(file.descriptor, length, start))
            if entry is not None:
                yield _line(entry, file, start, length)
            else:
                damaged += 1
        if damaged:
            log.warning("lines of the history are not what was written", count=damaged)


def _line(
    entry: HistoryEntry,
    file: _File | None,
    start: int,
    length: int,
    kept: HistoryEntry | None = None,
) -> _Line:
    of_commit = entry["outcome"] in OF_COMMITS
    of_drains = "backends" in entry
    return _Line(entry["commit"], _told(entry), of_commit, of_drains, file, start, length, kept)


def _told(entry: HistoryEntry) -> int:
    """The same for two entries that tell the same."""
    return hash(tuple(str(entry.get(key))[:_TEXT_CHARS_MAX] for key in _TOLD))


def _encoded(entry: HistoryEntry) -> bytes:
    """One line, of a bounded length whatever was committed."""
    told: dict[str, Any] = {
        key: value[:_TEXT_CHARS_MAX] if isinstance(value, str) else value
        for key, value in entry.items()
    }
    changes = told["changes"][:CHANGES_MAX]
    while True:
        told["changes"] = changes
        line = _checked(json.dumps(told, separators=(",", ":")).encode("ascii"))
        if len(line) <= ENTRY_BYTES_MAX or not changes:
            return line
        changes = changes[: len(changes) // 2]


def _without_changes(entry: HistoryEntry) -> HistoryEntry:
    kept = entry.copy()
    kept["changes"] = []
    return kept


def _checked(text: bytes) -> bytes:
    """The line of an entry, which ends by a hash of what stands before."""
    return text[:-1] + _CHECK % blake2b(text, digest_size=8).hexdigest().encode() + b"}\n"


def _decode(line: bytes) -> HistoryEntry | None:
    text = line[:-_CHECK_BYTES] + b"}"
    if _checked(text) != line:
        return None
    try:
        found: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        return None
    entry: HistoryEntry = found  # type: ignore[assignment]  # its keys were just looked at
    return entry
