"""Puts back what somebody altered of the files that workers read: certificates, keys, authorities.

Made by `reconciler.daemon`; called by `reconciler.workers.slots.bringup` when a worker refuses what
it reads there, and when the state directory was written anew; by `reconciler.storage.content_audit`
when some of it is found to be missing. What is nowhere is known as lost: a worker that starts then
takes all but what names that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

from reconciler import log
from reconciler.errors import UnreadableError
from reconciler.loop.stager import Stager
from reconciler.materials.sealed import SealedError
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Changed, Source
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from reconciler.workers.watching.without import named_by
from schemas.entities.entity import Entity, EntityKey

_NAMED_MAX = 3
_AT_ONCE = 8
"""So many are written at once, each synced: commits wait meanwhile."""


class Mending:
    """Knows what runs, and where its files come from."""

    def __init__(self, source: Source, store: Store, stager: Stager) -> None:
        self._source = source
        self._store = store
        self._stager = stager
        self._lost: dict[str, str] = {}
        self._told: tuple[int, frozenset[str]] = (0, frozenset())

    @property
    def lost(self) -> frozenset[str]:
        """The contents, by hash, that are nowhere any more."""
        # Somebody may have brought them back.
        held = {digest for digest in self._lost if self._store.materials.holds(digest)}
        return frozenset(self._lost.keys() - held)

    def mend(self) -> bool:
        """Restore what was altered in the state directory; tell whether anything was."""
        mended, self._lost = self._restored(self._store.running.state.with_files())
        self._say(mended)
        return bool(mended)

    async def mend_those_of(self, keys: Sequence[EntityKey]) -> None:
        """Restore what was altered of these entities, a few at a time."""
        mended, lost = list[str](), dict[str, str]()
        for at in range(0, len(keys), _AT_ONCE):
            # What a commit has removed meanwhile needs nothing.
            some = self._restored(self._store.running.state.many(keys[at : at + _AT_ONCE]))
            mended, lost = mended + some[0], lost | some[1]
            await asyncio.sleep(0)
        self._lost = lost
        self._say(mended)

    def _restored(self, entities: Iterable[Entity]) -> tuple[list[str], dict[str, str]]:
        """Write anew what these need; return what was, and what is nowhere, by hash."""
        running = self._store.running
        changed = Changed({}, (), full=False, tree=running.tree)

        def read(path: str) -> bytes:
            try:
                return self._stager.opened(self._source.read_file(changed, path))
            except (SealedError, RepositoryError) as error:
                raise UnreadableError(str(error)) from None

        try:
            return self._store.materials.mend(entities, read)
        except OSError as error:
            log.warning("the state directory cannot be mended", reason=error)
            return [], self._lost

    def _say(self, mended: list[str]) -> None:
        if mended:
            log.warning("files that were altered in the state directory are back", files=mended)
        # A note of it is gone with the generation.
        found = (self._store.running.generation, frozenset(self._lost))
        if self._lost and found != self._told:
            self._tell([*self._lost.values()], self._names())
        self._told = found

    def _names(self) -> list[str]:
        with contextlib.suppress(DamagedError, OSError):
            return [*map(str, named_by(self._store.running.state, frozenset(self._lost)))]
        return []

    def _tell(self, lost: list[str], names: list[str]) -> None:
        log.error("files that are served are nowhere else any more", files=lost, named_by=names)
        self._store.notes.add(
            f"what is served of {_some(lost)} is nowhere else any more: until a commit changes "
            f"what names it, or the files are back, a worker that is replaced serves all but "
            f"{_some(names)}",
            until_applied=True,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED_MAX]) + (", …" if len(names) > _NAMED_MAX else "")
