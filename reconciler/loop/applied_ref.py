"""The ref of the commit that was applied last: what it points to, git's gc leaves alone.

Moved behind the commit record, while workers swap, and so before anybody is told that the commit is
applied: whoever loses the state directory and all workers right afterwards, comes back to it.
Where it cannot be moved, `status` says so, and every look tries again. Made by `reconciler.daemon`;
called by `reconciler.transaction.runner` and `reconciler.loop.reconcile`.
"""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.errors import RepositoryError
from reconciler.source.source import Source


def whose(state_dir: Path) -> str:
    """Return how a daemon says that a commit was applied by it: by its machine and directory."""
    return f"{os.uname().nodename}:{state_dir.absolute()}"


class AppliedRef:
    """Owns `refs/kakehi/applied`, and says whose it is."""

    def __init__(self, source: Source, outcomes: Outcomes, state_dir: Path) -> None:
        self._source = source
        self._by = whose(state_dir)
        self._outcomes = outcomes
        self._marked: str | None = None
        self._wanted: str | None = None

    def resume(self, commit: str | None) -> None:
        """Move it to what a start has found to run, unless it is older than what the ref has.

        A daemon that was killed behind its commit record has left that to be done.
        """
        try:
            ref = self.last
            if commit is not None and ref is not None:
                applied = self._source.head_of(ref).commit
                if applied == commit or self._source.is_descendant(applied, commit):
                    return
        except RepositoryError:
            # Told by the looks, which need it as well.
            return
        self.mark(commit)

    @property
    def last(self) -> str | None:
        """The ref of what this daemon has applied last; None where it has applied nothing."""
        return self._source.repository.refs.applied_by(self._by)

    def mark(self, commit: str | None) -> None:
        """Let the ref point to a commit that runs; nothing is done where it does."""
        self._wanted = commit
        self.try_again()

    def try_again(self) -> None:
        """Do what could not be done before."""
        if self._wanted is None or self._wanted == self._marked:
            return
        try:
            self._source.repository.refs.mark_applied(self._wanted, self._by)
            self._marked = self._wanted
            self._outcomes.marked(None)
        except RepositoryError as error:
            self._outcomes.marked(str(error))
