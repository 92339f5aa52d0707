"""One transaction: what the database is written from, and what a start finds of the last one.

`Begun` is made by `reconciler.loop` and carried out by `reconciler.transaction`. Where the daemon
before died behind its commit record, workers may still hold the generation before it, or have it
prepared: `read_unfinished`, called by `reconciler.storage.store`, tells how to bring them forward.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Protocol

from reconciler.storage.file.database import DamagedError
from reconciler.storage.reading.header import Header
from reconciler.storage.reading.state import StoredState, Whole
from reconciler.storage.writing.bulk import Bulk
from schemas.entities.entity import Entity, EntityKey, Mark
from schemas.record import record


class Puts(Protocol):
    """Entities in the order of the plan, in memory or wherever they lie."""

    def __iter__(self) -> Iterator[Entity]:
        """Go through them."""

    def __len__(self) -> int:
        """Return how many there are."""


@record
class Begun:
    """A transaction: what it is based on, and what it changes."""

    generation: int
    base_generation: int
    base_digest: str
    digest: str
    commit: str
    tree: str
    at: str
    puts: Puts
    removes: tuple[EntityKey, ...]
    moved: tuple[Entity, ...]
    files: Mapping[str, Mapping[EntityKey, Mark]] = field(default_factory=dict)
    """What changed files define now; see `Candidate.files`."""
    whole: bool = False
    """Whether `files` are all that there are, and not only those that changed."""
    bulk: Bulk | None = None
    """Where the rows lie of a change that is too large for memory; `puts` are read from there."""


def read_unfinished(reader: sqlite3.Connection, header: Header, state: StoredState) -> Begun | None:
    """Return it, None when all workers were through. Raises `DamagedError`."""
    row = reader.execute(
        "SELECT base_generation, base_digest, puts, removes FROM unfinished"
    ).fetchone()
    if row is None:
        return None
    base_generation, base_digest, puts, removes = row
    try:
        keys = json.loads(puts)
        # Without a list it is all there is: nothing was before it.
        changed: Puts = Whole(state)
        if keys is not None:
            changed = tuple(state[EntityKey(*each)] for each in keys)
        removed = tuple(EntityKey(*each) for each in json.loads(removes))
    except (KeyError, TypeError, ValueError) as error:
        message = "the state database is damaged: the last transaction is not what was written"
        raise DamagedError(message) from error
    return Begun(
        generation=header.generation,
        base_generation=base_generation,
        base_digest=base_digest,
        digest=header.digest,
        commit=header.commit or "",
        tree=header.tree or "",
        at=header.applied_at or "",
        puts=changed,
        removes=removed,
        moved=(),
    )
