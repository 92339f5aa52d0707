"""What was parsed for a load that is not committed yet, by the content of the files.

A load of very many files takes a while, and may be ended in the middle of it: the next one goes on
where it was. Nothing depends on the file: one that cannot be read is begun anew, and the commit
removes it. Called by `reconciler.loop.large.loader`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from reconciler.durable import discard
from reconciler.presence import is_there

FILE_NAME = "parsed.db"

# Commits that are refused one after the other leave what was parsed of all of them.
_BYTES_MAX = 1 << 30
# SQLite takes so many values in one statement, in any of its versions.
_ASKED_MAX = 500


class ParsedBlobs:
    """The open file. `form` names the language and the way in which results are written."""

    def __init__(self, path: Path, form: str) -> None:
        """Raises `sqlite3.Error` or `OSError` where there is no place for it."""
        try:
            self._open(path, form)
        except (sqlite3.Error, OSError):
            remove(path)
            self._open(path, form)

    def _open(self, path: Path, form: str) -> None:
        if is_there(path) and path.stat().st_size > _BYTES_MAX:
            remove(path)
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, isolation_level=None)
        # What a crash of the machine takes is parsed once more.
        self._connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
            "CREATE TABLE IF NOT EXISTS form (name TEXT);"
            "CREATE TABLE IF NOT EXISTS parsed"
            " (blob BLOB PRIMARY KEY, found TEXT NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID;"
        )
        known = self._connection.execute("SELECT name FROM form").fetchone()
        if known != (form,):
            self._connection.execute("DELETE FROM form")
            self._connection.execute("DELETE FROM parsed")
            self._connection.execute("INSERT INTO form VALUES (?)", (form,))

    def find(self, blobs: Sequence[bytes]) -> dict[bytes, str]:
        """Return what is known of some blobs, as far as it is what was written."""
        found: dict[bytes, str] = {}
        for start in range(0, len(blobs), _ASKED_MAX):
            asked = blobs[start : start + _ASKED_MAX]
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                rows = self._connection.execute(
                    "SELECT blob, found, sum FROM parsed"  # noqa: S608  # question marks alone
                    f" WHERE blob IN ({', '.join('?' * len(asked))})",
                    asked,
                )
                found.update((blob, text) for blob, text, stored in rows if _sum(text) == stored)
        return found

    def keep(self, parsed: Iterable[tuple[bytes, str]]) -> None:
        """Write what was found in some blobs, in one transaction. May be lost."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "REPLACE INTO parsed VALUES (?, ?, ?)",
                ((blob, text, _sum(text)) for blob, text in parsed),
            )
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file; it stays on the disk."""
        self._connection.close()


def remove(path: Path) -> None:
    """Remove the file, and with it all that was parsed."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            discard(path.with_name(path.name + suffix))


def _sum(text: object) -> bytes:
    return blake2b(str(text).encode(), digest_size=16).digest()
