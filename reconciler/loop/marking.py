"""The ref of the commit that was applied last: what it points to, git's gc leaves alone.

Moved a moment behind a look, when whoever waits for the commit has been told and the loop has
nothing to do: a disk may take longer to move a ref than all the rest takes. Where it cannot be
moved, `status` says so, and every look tries again. Called by `reconciler.loop.reconcile`.
"""

from __future__ import annotations

import asyncio

from reconciler import log
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.errors import RepositoryError
from reconciler.source.source import Source

# An answer leaves by several turns of the loop, and what is asked next comes soon behind it.
_AFTER_S = 0.02


class Marking:
    """Owns `refs/kakehi/applied`."""

    def __init__(self, source: Source, outcomes: Outcomes) -> None:
        self._source = source
        self._outcomes = outcomes
        self._marked: str | None = None
        self._due: asyncio.TimerHandle | None = None
        self.wanted: str | None = None
        """The commit that was found to run."""

    def mark_soon(self) -> None:
        """Let the ref point to what runs; nothing is done where it does."""
        if self._due is None and self.wanted != self._marked:
            self._due = asyncio.get_running_loop().call_later(_AFTER_S, self._mark)

    def finish(self) -> None:
        """Do at the end what is still due."""
        if self._due is not None:
            self._due.cancel()
            self._mark()

    def _mark(self) -> None:
        self._due = None
        if self.wanted is None:
            return
        try:
            self._source.repository.refs.mark_applied(self.wanted)
            self._marked = self.wanted
            self._outcomes.repository_warning = None
        except RepositoryError as error:
            if self._outcomes.repository_warning != str(error):
                log.warning("the applied commit is not protected from gc", reason=error)
            self._outcomes.repository_warning = str(error)
