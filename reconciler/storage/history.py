"""The history: what became of each commit, one line of JSON each, for people.

Not part of the state: losing its end in a power cut loses a line of the story and nothing else.
Called by `reconciler.loop.reconcile` (add) and `reconciler.reporting.answers` (newest).
"""

from __future__ import annotations

import json
import os
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

from reconciler import log
from reconciler.durable import replace_durably
from reconciler.presence import is_there
from schemas.control import DrainEvent, HistoryEntry

ENTRIES_MAX = 1000
# Of a commit that changes more, the count is kept.
CHANGES_MAX = 1000
OF_COMMITS = frozenset(("applied", "unchanged", "refused", "superseded"))
"""The outcomes of commits; the others are what happened while one ran."""
_FILE_BYTES_MAX = 16 * 1024 * 1024
_TOLD_ONCE = ("refused", "not_renewed")
_KEYS = frozenset(
    ("at", "commit", "outcome", "generation", "duration_ms", "change_count", "changes")
)


class History:
    """The newest entries in memory, all of the last two files on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: deque[HistoryEntry] = deque(maxlen=ENTRIES_MAX)
        # What a power cut left of a line must not spoil the next one.
        self._start = ""
        for each in (path.with_suffix(".old"), path):
            self._read(each)

    def add(self, entry: HistoryEntry) -> None:
        """Appends; the same refusal after a restart is not told twice."""
        last = self._entries[-1] if self._entries else None
        if entry["outcome"] in _TOLD_ONCE and last is not None and _same(last, entry):
            return
        self._entries.append(entry)
        line = self._start + json.dumps(entry, separators=(",", ":")) + "\n"
        try:
            with open(self._path, "a", encoding="ascii", opener=_for_us_alone) as file:
                file.write(line)
                full = file.tell() > _FILE_BYTES_MAX
            self._start = ""
            if full:
                self._path.replace(self._path.with_suffix(".old"))
        except OSError as error:
            log.warning("cannot write the history", reason=error.strerror or error)

    def write(self) -> None:
        """Writes what is remembered, after the file was lost. Raises `OSError`."""
        if not is_there(self._path):
            lines = (json.dumps(each, separators=(",", ":")) + "\n" for each in self._entries)
            replace_durably(self._path, "".join(lines).encode("ascii"))

    def newest(self, limit: int) -> list[HistoryEntry]:
        """What became of commits, newest first."""
        commits = (each for each in reversed(self._entries) if "backends" not in each)
        return list(islice(commits, max(0, limit)))

    def drains(self, since: str) -> list[DrainEvent]:
        """What became of drains since a moment, newest first."""
        return [
            {
                "at": each["at"],
                "outcome": each["outcome"],
                "backends": each["backends"],
                "owner": each["author"],
                "expires_at": each.get("expires_at"),
                "commit": each["commit"],
            }
            for each in reversed(self._entries)
            if "backends" in each and each["at"] >= since
        ]

    def find(self, commit: str) -> HistoryEntry | None:
        """The newest entry that says what became of a commit."""
        about = (each for each in reversed(self._entries) if each["commit"] == commit)
        return next((each for each in about if each["outcome"] in OF_COMMITS), None)

    def _read(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        self._start = "" if text.endswith("\n") else "\n"
        for line in text.splitlines()[-ENTRIES_MAX:]:
            entry = _decode(line)
            if entry is not None:
                self._entries.append(entry)


def _for_us_alone(path: str, flags: int) -> int:
    # Whatever the umask is: it tells what was configured.
    return os.open(path, flags, 0o600)


def _decode(line: str) -> HistoryEntry | None:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        return None
    entry: HistoryEntry = found  # type: ignore[assignment]  # its keys were just looked at
    return entry


def _same(one: HistoryEntry, other: HistoryEntry) -> bool:
    told = ("commit", "outcome", "generation", "message")
    return all(one.get(key) == other.get(key) for key in told)
