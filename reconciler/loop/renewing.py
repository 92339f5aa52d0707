"""Files outside of the repository that have other contents by now, taken over by what runs.

Whatever the newest commit is, and also while it cannot be found: an old certificate must not expire
because of that. Called by `reconciler.loop.reconcile` at each look.
"""

from __future__ import annotations

import asyncio

from reconciler import log
from reconciler.catalog.catalog import named_together, outside_files
from reconciler.loop.applying import Applying, End
from reconciler.materials.external import ExternalFiles
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Head
from reconciler.storage.store import Store
from reconciler.transaction.retrying import Retrying


class Renewing:
    """Looks for what differs, and has it taken over."""

    def __init__(
        self,
        external: ExternalFiles,
        store: Store,
        outcomes: Outcomes,
        retrying: Retrying,
        applying: Applying,
    ) -> None:
        self._external = external
        self._store = store
        self._outcomes = outcomes
        self._retrying = retrying
        self._applying = applying
        self._is_due = False
        self._files: dict[str, frozenset[str]] = {}
        self._moment: tuple[int, str] | None = None

    @property
    def can_renew(self) -> bool:
        """Whether it is known which commit runs, which files are taken over for.

        Not of a state that another version has left a part of: workers of before hold the rest.
        """
        return self._store.running.commit is not None and self._store.running.tree is not None

    def retry(self) -> None:
        """What was refused is tried once more."""
        self._is_due |= bool(self._external.differing)

    async def run(self) -> bool:
        """Take over what has changed, for the commit that runs; tell whether that was tried."""
        running = self._store.running
        if await self._differs():
            self._is_due = True
            self._retrying.clear()
        if not self._is_due or running.commit is None or running.tree is None:
            return False
        if not self._retrying.is_due(asyncio.get_running_loop().time()):
            return False
        self._is_due = False
        try:
            self._is_due = await self._renew(Head(running.commit, running.tree)) == "later"
        except RepositoryError:
            self._is_due = True
            raise
        # What was taken over differs no more, which status shall not have to wait for.
        self._is_due |= await self._differs()
        return True

    async def _differs(self) -> bool:
        running = self._store.running
        moment = running.generation, running.state.digest
        if moment != self._moment:
            # A question about all of them: not at each look.
            self._files, self._moment = outside_files(running.state), moment
        return await self._external.look(self._files)

    async def _renew(self, running: Head) -> End:
        touched = self._external.differing
        log.info("files outside have changed", files=",".join(sorted(touched)))
        end = await self._applying.apply(running, touched)
        apart = named_together(self._store.running.state, touched)
        if end != "refused" or len(apart) < 2:
            self._note(running, touched, end)
            return end
        # One broken certificate must not keep the others from being renewed.
        ends: dict[frozenset[str], End] = {}
        for some in apart:
            ends[some] = await self._applying.apply(running, some)
            self._note(running, some, ends[some])
        if "later" in ends.values():
            return "later"
        refused = [some for some in apart if ends[some] == "refused"]
        if refused and ends[apart[-1]] != "refused":
            # What is wrong is what shall be said last.
            await self._applying.apply(running, frozenset().union(*refused))
        return "done"

    def _note(self, running: Head, paths: frozenset[str], end: End) -> None:
        """Keep the reason why files were not taken over: the last error is soon that of others."""
        error = self._outcomes.last_error
        if end != "done" and error is not None and error["commit"] == running.commit:
            self._external.refused(paths, error["message"])
