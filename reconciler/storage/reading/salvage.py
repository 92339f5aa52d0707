"""What a damaged database still tells, beside the state that is written anew from the repository.

Called by `reconciler.storage.store` before it sets the file aside.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from reconciler.storage.file.database import DamagedError, Database, text_hash
from reconciler.storage.kept.history import HistoryRow, StoredHistory, is_as_written


@dataclass(slots=True)
class Salvage:
    """What is as it was written."""

    generation: int = 0
    epoch: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    """What other parts have kept, by name."""
    history: list[HistoryRow] = field(default_factory=list)
    """Oldest first."""


def salvaged(database: Database) -> Salvage:
    """Return what can be read; nothing of a file that is none."""
    found = Salvage()
    with _whatever_it_is(), contextlib.closing(database.connect()) as connection:
        with _whatever_it_is():
            row = connection.execute("SELECT generation, epoch FROM running").fetchone()
            if row is not None and all(isinstance(each, int) for each in row):
                found.generation, found.epoch = row
        with _whatever_it_is():
            for name, text, stored in connection.execute("SELECT name, text, hash FROM kept"):
                if stored == text_hash(name, text):
                    found.texts[name] = text
        with _whatever_it_is():
            rows = StoredHistory(connection).after(0, -1)
            found.history += [row for _, row in rows if is_as_written(row)]
    return found


@contextlib.contextmanager
def _whatever_it_is() -> Iterator[None]:
    with contextlib.suppress(sqlite3.Error, OSError, UnicodeDecodeError, DamagedError):
        yield
