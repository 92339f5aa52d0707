"""The history: what became of each commit, and of each drain, for people.

Its rows lie in the state database and none of them in memory, so that neither commits of thousands
of changes nor their number make the daemon larger. No part of the state: a row is durable with
whatever is written next, and losing the last one in a power cut loses a line of the story.
`History` is called by `reconciler.reporting.outcomes` (add), and by whoever asks what became of a
commit; `StoredHistory` is how the rows are read, by `reconciler.storage.reading.running`.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple, Protocol

from reconciler import log
from reconciler.storage.file.database import DamagedError, text_hash, translated
from schemas.messages.results import DrainEvent, HistoryEntry, HistoryResult

ENTRIES_MAX = 1000
BYTES_MAX = 32 * 1024 * 1024
"""What the rows may be long, all together; the oldest make room."""
# Of a commit that changes more, the count is kept.
CHANGES_MAX = 1000
ENTRY_BYTES_MAX = 256 * 1024
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""What is read for one question; of entries beyond it the changes are left out."""
OF_COMMITS = frozenset(("applied", "unchanged", "refused", "superseded"))
"""The outcomes of commits; the others are what happened while one ran."""
_TEXT_CHARS_MAX = 4000
_TOLD_ONCE = ("refused", "not_renewed")
_KEYS = frozenset(
    ("at", "commit", "outcome", "generation", "duration_ms", "change_count", "changes")
)
_TOLD = ("commit", "outcome", "generation", "message")
# Entries that could not be written are kept in memory, without their changes.
_UNWRITTEN_MAX = 100

_ROW = "commit_id, topic, told, size, entry, hash"


class HistoryRow(NamedTuple):
    """A row as it is stored."""

    commit: str
    topic: str
    """`commit`, `files` (of the machine) or `drains`."""
    told: str
    """The same for two entries that tell the same."""
    size: int
    entry: str
    hash: bytes


class StoredHistory:
    """The rows, by one connection. Raises `DamagedError` and `OSError`."""

    def __init__(
        self, connection: sqlite3.Connection, refuse: Callable[[], None] = lambda: None
    ) -> None:
        """`refuse`: as of `Damage`."""
        self._connection = connection
        self._refuse = refuse

    def newest(self) -> Iterator[HistoryEntry]:
        """Yield what became of commits, of files and of drains, newest first."""
        left = ANSWER_BYTES_MAX
        for row in self._rows("true"):
            entry = _decoded(row)
            if entry is not None:
                left -= len(row.entry)
                yield entry if left >= 0 else _without_changes(entry)

    def find(self, commit: str) -> HistoryEntry | None:
        """Return the newest entry that says what became of a commit."""
        rows = self._rows("topic = 'commit' AND commit_id = ?", commit)
        return next((entry for row in rows if (entry := _decoded(row))), None)

    def after(self, number: int, limit: int) -> list[tuple[int, HistoryRow]]:
        """Return the rows behind a number in their order, so many at most."""
        query = f"SELECT number, {_ROW} FROM history WHERE number > ? ORDER BY number LIMIT ?"  # noqa: S608
        self._refuse()
        with translated():
            found = self._connection.execute(query, (number, limit)).fetchall()
        return [(number, HistoryRow(*row)) for number, *row in found]

    def last_told(self) -> str | None:
        """Return what the newest row tells, in short."""
        return next((row.told for row in self._rows("true", limit=1)), None)

    def _rows(self, where: str, *values: str, limit: int = ENTRIES_MAX) -> Iterator[HistoryRow]:
        query = (
            f"SELECT {_ROW} FROM history WHERE {where}"  # noqa: S608  # words of ours
            " ORDER BY number DESC LIMIT ?"
        )
        self._refuse()
        with translated():
            for row in self._connection.execute(query, (*values, limit)):
                yield HistoryRow(*row)


class HasHistory(Protocol):
    """One moment of the database, as far as its history goes."""

    @property
    def history(self) -> StoredHistory:
        """What is stored of the history."""

    @property
    def commit(self) -> str | None:
        """The commit that runs."""


class Recording(Protocol):
    """Where rows are written and read: `Store`."""

    @property
    def running(self) -> HasHistory:
        """What is stored, for the loop."""

    def snapshot(self) -> AbstractContextManager[HasHistory]:
        """What is stored, for any thread."""

    def record(self, row: HistoryRow, lost: Callable[[], None]) -> None:
        """Write a row, now or soon: `lost` is called where it could not be then.

        Raises `OSError` and `DamagedError`.
        """


class History:
    """The newest entries of what became of commits and drains."""

    def __init__(self, store: Recording) -> None:
        self._store = store
        self._unwritten: deque[HistoryEntry] = deque(maxlen=_UNWRITTEN_MAX)

    def add(self, entry: HistoryEntry) -> None:
        """Append; the same refusal after a restart is not told twice."""
        try:
            row = row_of(entry)
            if entry["outcome"] in _TOLD_ONCE and self._last_told() == row.told:
                return
            self._write()
            self._record(row, entry)
        except (DamagedError, OSError) as error:
            log.warning("cannot write the history", reason=error)
            self._unwritten.append(_without_changes(entry))

    def write(self) -> None:
        """Write what could not be written. Raises `OSError`."""
        try:
            self._write()
        except DamagedError as error:
            raise OSError(errno.EIO, str(error)) from error

    def _write(self) -> None:
        while self._unwritten:
            self._record(row_of(self._unwritten[0]), self._unwritten[0])
            self._unwritten.popleft()

    def _record(self, row: HistoryRow, entry: HistoryEntry) -> None:
        self._store.record(row, lambda: self._unwritten.append(_without_changes(entry)))

    def answer(self, limit: int) -> HistoryResult:
        """Return the newest entries, and what became of drains meanwhile; for any thread.

        Raises `DamagedError` and `OSError`.
        """
        entries: list[HistoryEntry] = []
        drains: list[DrainEvent] = []
        unwritten = list(reversed(self._unwritten))
        with self._store.snapshot() as seen:
            # In the order in which it came about: the clock may have been set back.
            for position, entry in enumerate(chain(unwritten, seen.history.newest())):
                if len(entries) == limit:
                    break
                if "backends" in entry:
                    drains.append(_event(entry, position))
                    continue
                told = entry.copy()
                told["position"] = position
                entries.append(told)
            running = seen.commit
        return {"commit": running, "entries": entries, "drains": drains}

    def find(self, commit: str) -> HistoryEntry | None:
        """Return the newest entry that says what became of a commit."""
        about = (each for each in reversed(self._unwritten) if each["outcome"] in OF_COMMITS)
        found = next((each for each in about if each["commit"] == commit), None)
        try:
            return found or self._store.running.history.find(commit)
        except (DamagedError, OSError) as error:
            # A story that cannot be read stops nothing.
            log.warning("cannot read the history", reason=error)
            return None

    def has(self, commit: str) -> bool:
        """Tell whether anything is told of a commit."""
        return self.find(commit) is not None

    def _last_told(self) -> str | None:
        if self._unwritten:
            return _told(self._unwritten[-1])
        return self._store.running.history.last_told()


def row_of(entry: HistoryEntry) -> HistoryRow:
    """Return the row of an entry, of a bounded length whatever was committed."""
    text = _encoded(entry)
    topic = "drains" if "backends" in entry else "files"
    if entry["outcome"] in OF_COMMITS:
        topic = "commit"
    commit = entry["commit"]
    return HistoryRow(commit, topic, _told(entry), len(text), text, text_hash(commit, text))


def is_as_written(row: HistoryRow) -> bool:
    """Tell whether a row has the content that it was stored with."""
    return text_hash(row.commit, row.entry) == row.hash


def generation_of(row: HistoryRow) -> int:
    """Return the generation that an entry tells of."""
    found: int = json.loads(row.entry)["generation"]
    return found


def record(connection: sqlite3.Connection, row: HistoryRow) -> None:
    """Insert a row, for which the oldest make room. Raises `sqlite3.Error`."""
    connection.execute(
        f"INSERT INTO history ({_ROW}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608  # words of ours
        row,
    )
    connection.execute(
        "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?", (ENTRIES_MAX,)
    )
    (total,) = connection.execute("SELECT sum(size) FROM history").fetchone()
    while total > BYTES_MAX:
        oldest = "SELECT min(number) FROM history"
        (size,) = connection.execute(
            f"DELETE FROM history WHERE number = ({oldest}) RETURNING size"  # noqa: S608
        ).fetchone()
        total -= size


def _told(entry: HistoryEntry) -> str:
    telling = [str(entry.get(key))[:_TEXT_CHARS_MAX] for key in _TOLD]
    return blake2b(json.dumps(telling).encode(), digest_size=8).hexdigest()


def _encoded(entry: HistoryEntry) -> str:
    told: dict[str, Any] = {
        key: value[:_TEXT_CHARS_MAX] if isinstance(value, str) else value
        for key, value in entry.items()
    }
    changes = told["changes"][:CHANGES_MAX]
    while True:
        told["changes"] = changes
        text = json.dumps(told, separators=(",", ":"))
        if len(text) <= ENTRY_BYTES_MAX or not changes:
            return text
        changes = changes[: len(changes) // 2]


def _without_changes(entry: HistoryEntry) -> HistoryEntry:
    kept = entry.copy()
    kept["changes"] = []
    return kept


def _event(entry: HistoryEntry, position: int) -> DrainEvent:
    event: DrainEvent = {
        "position": position,
        "at": entry["at"],
        "outcome": entry["outcome"],
        "backends": entry["backends"],
        "owner": entry["author"],
        "expires_at": entry.get("expires_at"),
        "commit": entry["commit"],
    }
    if "drained_by" in entry:
        event["drained_by"] = entry["drained_by"]
    return event


def _decoded(row: HistoryRow) -> HistoryEntry | None:
    """Return the entry of a row; None, which is told, when it is not what was written."""
    try:
        found: Any = json.loads(row.entry) if is_as_written(row) else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        log.warning("an entry of the history is not what was written", commit=str(row.commit)[:12])
        return None
    entry: HistoryEntry = found  # type: ignore[assignment]  # its keys were just looked at
    return entry


def now() -> str:
    """The time as the database and the history have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
