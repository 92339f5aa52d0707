"""Checkpoints: what is in the log of the state database is copied into its file, now and then.

In a thread, which a commit never waits for, and no more often than there is much to copy. Called by
`reconciler.storage.store` behind each commit.
"""

from __future__ import annotations

import contextlib
import threading

from reconciler import faults
from reconciler.errors import MachineError
from reconciler.storage.database import Database

# Some hundred commits. The next start reads what is not copied yet.
DUE_BYTES = 8 * 1024 * 1024


class Checkpoints:
    """One at a time."""

    def __init__(self) -> None:
        self._running: threading.Thread | None = None

    def begin_if_due(self, database: Database) -> None:
        """Begin one when there is enough to copy."""
        if self._running is not None and self._running.is_alive():
            return
        if database.uncopied_bytes < DUE_BYTES:
            return
        self._running = threading.Thread(target=_checkpoint, args=(database,), daemon=True)
        self._running.start()

    def finish(self) -> None:
        """Wait for the one that runs."""
        if self._running is not None:
            self._running.join()


def _checkpoint(database: Database) -> None:
    # Nothing depends on it, and the next commit tries again.
    with contextlib.suppress(OSError, MachineError):
        faults.point("checkpoint.begin")
        database.checkpoint()
        faults.point("checkpoint.end")
