"""The last transaction, as a start finds it when the daemon before died behind its commit record.

Workers may still hold the generation before it, or have it prepared, and are brought forward.
Called by `reconciler.storage.store`.
"""

from __future__ import annotations

import json
import sqlite3

from reconciler.storage.database import DamagedError
from reconciler.storage.records import Begun, Header, Puts
from reconciler.storage.state import StoredState, Whole
from schemas.entities.entity import EntityKey


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
