"""Puts back what somebody altered of the files that workers read: certificates, keys, authorities.

Made by `reconciler.daemon`; called by `reconciler.workers.slots.bringup` when a worker refuses what
it reads there, and when the state directory was written anew; by `reconciler.storage.materials`
when some of it is found to be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from reconciler import log
from reconciler.errors import UnreadableError
from reconciler.loop.stager import Stager
from reconciler.materials.sealed import SealedError
from reconciler.source.git.errors import RepositoryError
from reconciler.source.source import Changed, Source
from reconciler.storage.store import Store
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
        self._lost: tuple[int, list[str]] = (0, [])

    def mend(self) -> bool:
        """Restore what was altered in the state directory; tell whether anything was."""
        mended, lost = self._restored(self._store.running.state.with_files())
        self._say(mended, lost)
        return bool(mended)

    async def mend_those_of(self, keys: Sequence[EntityKey]) -> None:
        """Restore what was altered of these entities, a few at a time."""
        mended, lost = list[str](), list[str]()
        for at in range(0, len(keys), _AT_ONCE):
            # What a commit has removed meanwhile needs nothing.
            some = self._restored(self._store.running.state.many(keys[at : at + _AT_ONCE]))
            mended, lost = mended + some[0], lost + some[1]
            await asyncio.sleep(0)
        self._say(mended, lost)

    def _restored(self, entities: Iterable[Entity]) -> tuple[list[str], list[str]]:
        """Write anew what these need; return what was, and what is nowhere."""
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
            return [], []

    def _say(self, mended: list[str], lost: list[str]) -> None:
        if mended:
            log.warning("files that were altered in the state directory are back", files=mended)
        # A note of it is gone with the generation.
        found = (self._store.running.generation, lost)
        if lost and found != self._lost:
            self._tell(lost)
        self._lost = found

    def _tell(self, lost: list[str]) -> None:
        log.error("files that are served are nowhere else any more", files=lost)
        some = ", ".join(lost[:_NAMED_MAX]) + (", …" if len(lost) > _NAMED_MAX else "")
        self._store.notes.add(
            f"what is served of {some} is nowhere else any more: until a commit changes or removes "
            "what names it, no worker that ends can be replaced",
            until_applied=True,
        )
