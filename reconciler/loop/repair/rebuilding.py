"""The state database written anew, when rows of it are not what was written.

What runs is known otherwise: from the commit that runs, as long as it gives the same digest (a file
outside of the repository may be another by now), else from any worker that serves. Where nobody
serves, what the commit gives now is better than nothing. Called by `reconciler.loop.reconcile`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

from reconciler import log
from reconciler.catalog.catalog import Candidate
from reconciler.errors import MachineError
from reconciler.loop.repair.reading_back import UnknownStateError, files_of, read_back
from reconciler.loop.stager import Stager
from reconciler.storage.file.database import DamagedError, UnreadError
from reconciler.storage.reading.header import Recovered
from reconciler.storage.store import Store
from reconciler.workers.linked.worker import Worker
from schemas.changes.state import State
from schemas.entities.entity import Entity, EntityKey

# It costs a look at the whole commit: nobody looks again for as long as it took, and for this.
_PAUSE_S = 5.0
# Whether the disk can be read again, which costs as much as is read of it.
_UNREAD_PAUSE_S = 1.0
# What reads well and is met again so soon is damaged in a way that no look at the file tells.
_AGAIN_S = 30.0


class Serving(Protocol):
    """Who knows the workers."""

    @property
    def in_service(self) -> dict[int, Worker]:
        """Those that serve, by number."""


class Rebuilding:
    """Sees to damage that anybody has come upon."""

    def __init__(self, store: Store, stager: Stager, serving: Serving) -> None:
        self._store = store
        self._stager = stager
        self._serving = serving
        self._found: DamagedError | None = None
        self._not_before = 0.0
        self._is_unread = False
        self._well_until = 0.0
        self._told: str | None = None
        self.problem: str | None = None
        """What was found, until it is written anew."""

    def found(self, damage: DamagedError) -> None:
        """Somebody has come upon a row that is not what was written."""
        self._found = damage

    def due(self) -> DamagedError | None:
        """What was found since the last time; not yet, where it was tried a moment ago."""
        if time.monotonic() < self._not_before:
            return None
        noted = self._store.damage.take()
        damage, self._found = self._found or noted, None
        return damage

    async def confirmed(self, found: DamagedError) -> DamagedError | None:
        """What is damaged indeed; None where all reads well, and it was the disk for a while.

        Raises `OSError` as long as it is the disk: nothing is written anew for that.
        """
        if not isinstance(found, UnreadError):
            return found
        try:
            is_well = await self._store.is_well()
        except OSError as error:
            self._found, self._is_unread = found, True
            self._not_before = time.monotonic() + _UNREAD_PAUSE_S
            self.problem = f"the state database cannot be read: {error.strerror or error}"
            raise
        was_unread, self._is_unread = self._is_unread, False
        if not is_well or (not was_unread and time.monotonic() < self._well_until):
            return found.confirmed()
        if not was_unread:
            self._well_until = time.monotonic() + _AGAIN_S
        self.problem = self._found = None
        self._store.damage.take()
        told = f"{self._store.place.directory} could not be read for a while; nothing of it is lost"
        self._store.notes.add(told)
        log.warning(told)
        return None

    async def run(self, damage: DamagedError) -> bool:
        """Write it anew; return whether it was. What stands in the way is told once."""
        self.problem = str(damage)
        began = time.monotonic()
        if began < self._not_before:
            self._found = damage
            return False
        try:
            candidate = await self._candidate(self._store.running.tree)
            aside, source = await self._rebuild(candidate)
        except (MachineError, UnknownStateError, OSError) as error:
            if str(error) != self._told:
                self._told = str(error)
                log.warning("the state database cannot be written anew", reason=error)
            return False
        finally:
            took = time.monotonic() - began
            self._not_before = time.monotonic() + max(_PAUSE_S, took)
        # Whatever somebody has found until now was in the file of before.
        self._told = self.problem = self._found = None
        self._store.damage.take()
        log.warning(f"the state database is written anew {source}", kept=aside)
        return True

    async def _candidate(self, tree: str | None) -> Candidate | None:
        if tree is None:
            return None
        return await asyncio.to_thread(self._stager.whole, tree)

    async def _rebuild(self, candidate: Candidate | None) -> tuple[str, str]:
        """Return what the old file is now, and what the new one is from.

        Raises `UnknownStateError` and `OSError`.
        """
        running = self._store.running
        written = _entities(candidate)
        state = State(written.values())
        is_valid = candidate is not None and candidate.ok
        if is_valid and state.digest == running.state.digest:
            assert candidate is not None, "it is valid"
            aside = await self._store.rebuild(list(written.values()), candidate.files)
            return aside, "from the commit that runs"
        workers = self._serving.in_service.values()
        if workers:
            entities = await self._read_back(workers, written)
            return await self._store.rebuild(entities, files_of(entities)), "from a worker"
        if not is_valid:
            raise UnknownStateError("nobody serves it, and the commit that runs is not valid now")
        assert candidate is not None, "it is valid"
        self._store.materials.keep(written.values(), dict(candidate.contents))
        held = Recovered(running.generation + 1, state.digest, running.commit, running.tree)
        aside = await self._store.rebuild(list(written.values()), candidate.files, held)
        return aside, "from what the commit that runs gives now, since nobody serves what it gave"

    async def _read_back(
        self, workers: Iterable[Worker], written: dict[EntityKey, Entity]
    ) -> list[Entity]:
        running = self._store.running
        reason = "no worker holds what runs"
        for worker in list(workers):
            if (worker.generation, worker.digest) == (running.generation, running.state.digest):
                try:
                    return await read_back(worker.link, *running.moment[:2], written)
                except UnknownStateError as error:
                    reason = f"worker {worker.id}: {error}"
        raise UnknownStateError(reason)


def _entities(candidate: Candidate | None) -> dict[EntityKey, Entity]:
    if candidate is None:
        return {}
    return {key: each for key, each in candidate.desired.items() if each is not None}
