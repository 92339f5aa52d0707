"""Puts back what somebody altered of the files that workers read: certificates, keys, authorities.

Made by `reconciler.daemon`; called by `reconciler.workers.slots.bringup` when a worker refuses what
it reads there, and when the state directory was written anew.
"""

from __future__ import annotations

from reconciler import log
from reconciler.errors import UnreadableError
from reconciler.loop.stager import Stager
from reconciler.materials.sealed import SealedError
from reconciler.source.git.errors import RepositoryError
from reconciler.source.source import Changed, Source
from reconciler.storage.store import Store


class Mending:
    """Knows what runs, and where its files come from."""

    def __init__(self, source: Source, store: Store, stager: Stager) -> None:
        self._source = source
        self._store = store
        self._stager = stager

    def mend(self) -> bool:
        """Restore what was altered in the state directory; tell whether anything was."""
        running = self._store.running
        changed = Changed({}, (), full=False, tree=running.tree)

        def read(path: str) -> bytes:
            try:
                return self._stager.opened(self._source.read_file(changed, path))
            except (SealedError, RepositoryError) as error:
                raise UnreadableError(str(error)) from None

        try:
            mended = self._store.materials.mend(running.state.with_files(), read)
        except OSError as error:
            log.warning("the state directory cannot be mended", reason=error)
            return False
        if mended:
            log.warning("files that were altered in the state directory are back", files=mended)
        return bool(mended)
