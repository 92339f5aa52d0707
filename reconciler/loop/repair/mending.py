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

_NAMED_MAX = 3


class Mending:
    """Knows what runs, and where its files come from."""

    def __init__(self, source: Source, store: Store, stager: Stager) -> None:
        self._source = source
        self._store = store
        self._stager = stager
        self._lost: list[str] = []

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
            mended, lost = self._store.materials.mend(running.state.with_files(), read)
        except OSError as error:
            log.warning("the state directory cannot be mended", reason=error)
            return False
        if mended:
            log.warning("files that were altered in the state directory are back", files=mended)
        if lost and lost != self._lost:
            self._tell(lost)
        self._lost = lost
        return bool(mended)

    def _tell(self, lost: list[str]) -> None:
        log.error("files that are served are nowhere else any more", files=lost)
        some = ", ".join(lost[:_NAMED_MAX]) + (", …" if len(lost) > _NAMED_MAX else "")
        self._store.notes.add(
            f"what is served of {some} is nowhere else any more: until a commit changes or removes "
            "what names it, no worker that ends can be replaced",
            until_applied=True,
        )
