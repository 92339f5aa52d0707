"""Goes through all rows of the state database in the background, so that damage is found in time.

A row is checked when it is read, and of a large state most rows are not read for weeks; a flipped
bit would be found when a worker has to be brought up. So all of them are looked at now and then: in
a thread, a few at a time, each few in a snapshot of their own that holds no checkpoint up. Every
entity must be what was written, stand under each of its relations, and all of them have the digest
that runs and the numbers that are counted; files and history must be what was written. What is
found is treated as when it is read. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler import log
from reconciler.parts import heard_again_within
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.history import StoredHistory, is_as_written
from reconciler.storage.reading.state import StoredState, decode_file
from reconciler.storage.reading.weights import EXPRESSION
from reconciler.storage.store import Store
from reconciler.storage.writing.writer import Relate
from schemas.entities.entity import KINDS, EntityKey

EVERY_S = 6 * 3600.0
FIRST_S = 300.0
# Behind damage: what has become of it is looked at soon.
AGAIN_S = 60.0
_ROWS = 50
# Between two batches, and so many times as long as the last one took: the loop shares the
# interpreter with this thread, and commits must not feel it.
_PAUSE_S = 0.02
_PAUSE_SHARE = 4.0
_BATCH_WITHIN_S = 60.0
_MODULUS = 1 << 128


@dataclass(slots=True)
class _Walk:
    """How far one walk through all rows has come."""

    generation: int
    digest: str
    total: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    after: EntityKey | None = EntityKey("", "")  # noqa: RUF009  # a tuple
    """The last entity that was looked at; None behind all of them."""
    path: str | None = ""
    number: int = 0
    steady: bool = True
    """No commit has come since it began, so that the sum means something."""


class RowAudit:
    """Of one store; `damaged` is called on the loop."""

    def __init__(
        self,
        store: Store,
        relate: Relate,
        damaged: Callable[[DamagedError], None],
    ) -> None:
        self._store = store
        self._relate = relate
        self._damaged = damaged
        self.problem: str | None = None
        """What the last way through has found."""

    async def run(self) -> None:
        """Look through all rows every few hours, until cancelled."""
        pause_s = FIRST_S
        while True:
            heard_again_within(pause_s + _BATCH_WITHIN_S)
            await asyncio.sleep(pause_s)
            pause_s = EVERY_S
            try:
                await self.walk()
            except DamagedError as error:
                pause_s = min(AGAIN_S, EVERY_S)
                if str(error) == self.problem:
                    # It could not be mended, which costs a look at the whole commit each time.
                    continue
                self.problem = str(error)
                log.error("the audit of the state database has found damage", reason=error)
                self._damaged(error)
            except OSError as error:
                # The directory cannot be read now, which others tell.
                log.warning("the state database cannot be audited", reason=error)
            else:
                self.problem = None

    async def walk(self) -> None:
        """Go through all rows once. Raises `DamagedError`, `OSError`."""
        running = self._store.running
        walk = _Walk(running.generation, running.state.digest)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while await asyncio.to_thread(self._batch, walk):
            pause_s = max(_PAUSE_S, min(1.0, _PAUSE_SHARE * (loop.time() - began)))
            heard_again_within(pause_s + _BATCH_WITHIN_S)
            await asyncio.sleep(pause_s)
            began = loop.time()

    def _batch(self, walk: _Walk) -> bool:
        """Check the next rows; tell whether there are more. Raises `DamagedError`, `OSError`."""
        with self._store.snapshot() as seen:
            walk.steady &= seen.generation == walk.generation
            if walk.after is not None:
                self._check_entities(walk, walk.after, seen.state)
                return True
            if walk.path is not None:
                _check_files(walk, walk.path, seen.state)
                return True
            return _check_history(walk, seen.history)

    def _check_entities(self, walk: _Walk, after: EntityKey, state: StoredState) -> None:
        entities = state.after(after, _ROWS)
        for entity, weight in entities:
            walk.total += weight
            walk.counts[entity.key.kind] += 1
            for relation, term, note in self._relate(entity):
                stored = state.related_note(relation, term, entity.key)
                # What an expression takes may be another number in each version, and is kept.
                if stored is None or (stored != note and relation != EXPRESSION):
                    raise DamagedError(
                        f"the state database is damaged: {entity.key} is not among what is "
                        f"related by {relation}"
                    )
        walk.after = entities[-1][0].key if entities else None
        if not entities and state.weight() != state.weight_anew():
            raise DamagedError("the state database is damaged: expressions weigh something else")
        if not entities and walk.steady:
            counted = {kind: number for kind in KINDS if (number := state.count(kind))}
            if walk.total % _MODULUS != int(walk.digest, 16) or walk.counts != counted:
                raise DamagedError(
                    "the state database is damaged: entities are missing, or too many"
                )


def _check_files(walk: _Walk, after: str, state: StoredState) -> None:
    files = state.files_after(after, _ROWS)
    for row in files:
        decode_file(*row)
    walk.path = files[-1][0] if files else None


def _check_history(walk: _Walk, history: StoredHistory) -> bool:
    rows = history.after(walk.number, _ROWS)
    for walk.number, row in rows:
        if not is_as_written(row):
            raise DamagedError(
                "the state database is damaged: an entry of the history is not what was written"
            )
    return bool(rows)
