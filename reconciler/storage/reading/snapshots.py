"""Connections that read one moment of the database each, kept for the next who wants one.

To connect, and to have SQLite read what tables there are, takes longer than what a commit asks for.
Called by `reconciler.storage.opened` alone.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from reconciler.storage.file.database import Database

# Commits, and a question beside them; each may have some megabytes of pages.
_KEPT_MAX = 2


class Snapshots:
    """Of one open database file; for any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Its methods are atomic, so that two threads never get the same one.
        self._kept: list[sqlite3.Connection] = []
        self._closed = False

    @contextlib.contextmanager
    def begin(self) -> Iterator[sqlite3.Connection]:
        """Within, a connection sees one moment. Raises `sqlite3.Error`."""
        try:
            connection = self._kept.pop()
        except IndexError:
            connection = self._database.connect()
        try:
            connection.execute("BEGIN")
            yield connection
            connection.set_progress_handler(None, 0)
            connection.execute("ROLLBACK")
            # What it has read is not kept: it would take memory, and hide damage from an audit.
            connection.execute("PRAGMA shrink_memory")
        except BaseException:
            # Whatever it has come upon, the next one does not meet it.
            connection.close()
            raise
        if self._closed or len(self._kept) >= _KEPT_MAX:
            connection.close()
        else:
            self._kept.append(connection)

    def close(self) -> None:
        """Keep none any more; those in use are closed by whoever uses them."""
        self._closed = True
        while self._kept:
            self._kept.pop().close()
