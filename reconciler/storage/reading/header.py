"""The header row, by which a start knows what runs, and what workers tell where it is lost.

Read and written by `reconciler.storage.store`.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import astuple
from hashlib import blake2b

from reconciler.storage.file.database import DamagedError
from schemas.record import record


@record
class Header:
    """The header row: which generation of which commit, by a version with which language."""

    generation: int
    digest: str
    commit: str | None
    tree: str | None
    applied_at: str | None
    epoch: int
    language: str

    @property
    def check_sum(self) -> str:
        """What tells a damaged row."""
        return blake2b(json.dumps(astuple(self)).encode(), digest_size=16).hexdigest()


@record
class Recovered:
    """What workers serve, where the files had lost it; see `reconciler.loop.repair.recovery`."""

    generation: int
    digest: str
    commit: str | None = None
    tree: str | None = None
    """None when it is not known where each entity is written."""


def read_header(connection: sqlite3.Connection) -> Header | None:
    """Return the header row; None of a new file. Raises `sqlite3.Error`, `DamagedError`."""
    row = connection.execute(
        "SELECT generation, digest, commit_id, tree, applied_at, epoch, language, check_sum"
        " FROM running"
    ).fetchone()
    if row is None:
        return None
    *fields, stored = row
    header = Header(*fields)
    if header.check_sum != stored:
        raise DamagedError("the state database is damaged: its header is not what was written")
    return header
