"""The ref of the commit that was applied last: what it points to, git's gc leaves alone.

Moved behind each look, when whoever waits for the commit has been told: to move a ref takes a disk
longer than all the rest. Where it cannot be moved, `status` says so, and every look tries again.
Called by `reconciler.loop.reconcile`.
"""

from __future__ import annotations

from reconciler import log
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.repository import RepositoryError
from reconciler.source.source import Source


class Marking:
    """Owns `refs/kakehi/applied`."""

    def __init__(self, source: Source, outcomes: Outcomes) -> None:
        self._source = source
        self._outcomes = outcomes
        self._marked: str | None = None
        self.wanted: str | None = None
        """The commit that was found to run."""

    def mark(self) -> None:
        """Let the ref point to what runs; nothing is done where it does."""
        if self.wanted is None or self.wanted == self._marked:
            return
        try:
            self._source.repository.mark_applied(self.wanted)
            self._marked = self.wanted
            self._outcomes.repository_warning = None
        except RepositoryError as error:
            if self._outcomes.repository_warning != str(error):
                log.warning("the applied commit is not protected from gc", reason=error)
            self._outcomes.repository_warning = str(error)
