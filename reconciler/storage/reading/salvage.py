"""What a damaged database still tells, beside the state that is written anew from the repository.

Called by `reconciler.storage.opened` and `store` before they put another file in its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from reconciler.storage.file.database import DamagedError, Database, text_hash, translated
from reconciler.storage.kept.history import HistoryRow, StoredHistory, generation_of, is_as_written


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
    """Return what can be read; nothing of a file that is none.

    Raises `OSError` where the disk does not give back what is there. SQLite does not tell that from
    damage, so what failed is tried once more where it does.
    """
    found, is_whole = _read(database)
    if not is_whole:
        database.read_through()
        found, is_whole = _read(database)
    if not is_whole:
        database.read_through()
    return found


def _read(database: Database) -> tuple[Salvage, bool]:
    """Return what can be read, and whether all could."""
    found, failed = Salvage(), list[Exception]()
    _whatever_it_is = partial(_noted, failed)
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
    # The row of what runs may be the one that is damaged.
    told = [generation_of(row) for row in found.history]
    found.generation = max([found.generation, *told])
    return found, not failed


@contextlib.contextmanager
def _noted(failed: list[Exception]) -> Iterator[None]:
    try:
        with translated():
            yield
    except (OSError, DamagedError) as error:
        failed.append(error)
