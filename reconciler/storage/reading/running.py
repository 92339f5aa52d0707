"""What runs, as the database has it: the header row of one moment and the way to its entities.

Read by `reconciler.storage.store`, which hands it to every part that asks what runs.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from reconciler.storage.file.database import Damage
from reconciler.storage.kept.history import StoredHistory
from reconciler.storage.reading.header import Header
from reconciler.storage.reading.since import Moment
from reconciler.storage.reading.state import SnapshotState, StoredState
from schemas.changes.state import EMPTY_DIGEST

_SINCE = 1_577_836_800


@dataclass(slots=True)
class Running:
    """The running state: what every worker holds, or is being brought to."""

    state: StoredState
    history: StoredHistory
    generation: int = 0
    commit: str | None = None
    tree: str | None = None
    applied_at: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs yet; known without a look into the database."""
        return self.state.digest == EMPTY_DIGEST

    @property
    def moment(self) -> Moment:
        """Which state it is."""
        return Moment(self.generation, self.state.digest, self.commit or "")


def beyond_any_count() -> int:
    """Return a generation after all that were counted, where nobody can read how many those were.

    The seconds since 2020: no proxy has had a commit in each of them.
    """
    return max(0, int(time.time()) - _SINCE)


def running_of(connection: sqlite3.Connection, header: Header | None, damage: Damage) -> Running:
    """Return what runs by a header, and what is asked for by a connection as it is then."""
    history = StoredHistory(connection, damage.refuse)
    if header is None:
        return Running(StoredState(connection, EMPTY_DIGEST, damage), history)
    state = StoredState(connection, header.digest, damage)
    of_commit = header.commit, header.tree, header.applied_at
    return Running(state, history, header.generation, *of_commit)


def read_running(connection: sqlite3.Connection, damage: Damage) -> Running:
    """Return what a snapshot says. Raises `sqlite3.Error`."""
    generation, digest, *rest = connection.execute(
        "SELECT generation, digest, commit_id, tree, applied_at FROM running"
    ).fetchone()
    state = SnapshotState(connection, digest, damage)
    return Running(state, StoredHistory(connection, damage.refuse), generation, *rest)
