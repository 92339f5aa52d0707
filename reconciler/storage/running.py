"""What runs, as the database has it: the header row of one moment and the way to its entities.

Read by `reconciler.storage.store`, which hands it to every part that asks what runs.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from reconciler.storage.database import Damage
from reconciler.storage.history import StoredHistory
from reconciler.storage.state import SnapshotState, StoredState
from reconciler.storage.view import Moment


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
    def moment(self) -> Moment:
        """Which state it is."""
        return Moment(self.generation, self.state.digest, self.commit or "")


def read_running(connection: sqlite3.Connection, damage: Damage) -> Running:
    """Return what a snapshot says. Raises `sqlite3.Error`."""
    generation, digest, *rest = connection.execute(
        "SELECT generation, digest, commit_id, tree, applied_at FROM running"
    ).fetchone()
    state = SnapshotState(connection, digest, damage)
    return Running(state, StoredHistory(connection), generation, *rest)
