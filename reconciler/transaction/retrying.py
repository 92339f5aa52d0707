"""Which commit is given up, and when one is tried again that failed for no fault of its own.

A worker that died, a full disk or a taken port may be mended without a new commit, so that nothing
is ever given up for it; only the time between two tries grows. Pure: time is an argument. Called by
`reconciler.loop.reconcile`; `status` and `wait` tell of it.
"""

from __future__ import annotations

from reconciler.transaction.events import Failure

# A worker that dies once may have been hit by chance: the next ones are there already.
_AT_ONCE = 2
_FIRST_S = 1.0
_MAX_S = 10.0
# Each try may cost workers, if it is the commit that kills them.
_COSTLY_MAX_S = 3600.0


class Retrying:
    """The tries of one commit."""

    def __init__(self) -> None:
        self.attempts = 0
        self.reason = ""
        self.given_up: str | None = None
        """The commit that was refused, and is not tried again until the ref moves."""
        self._commit: str | None = None
        self._due = 0.0

    def give_up(self, commit: str) -> None:
        """Note that a commit was refused."""
        self.given_up = commit

    def take_up(self) -> None:
        """What was given up may be tried once more."""
        self.given_up = None

    @property
    def is_waiting(self) -> bool:
        """Whether something failed that will be tried again."""
        return self.attempts > 0

    def waits_for(self, commit: str) -> bool:
        """Whether this is what failed, and not files that the commit which runs names."""
        return self.is_waiting and self._commit in (None, commit)

    def failed(self, failure: Failure, now: float, commit: str | None = None) -> float:
        """Note a failure, of a commit if that is known; return after how long it is tried again."""
        self.attempts += 1
        self.reason, self._commit = failure.told, commit
        delayed = self.attempts
        if failure.by_workers:
            delayed -= _AT_ONCE
        longest = _COSTLY_MAX_S if failure.costly else _MAX_S
        delay = min(longest, _FIRST_S * 2.0 ** min(delayed - 1, 32)) if delayed > 0 else 0.0
        self._due = now + delay
        return delay

    def is_due(self, now: float) -> bool:
        """Whether it may be tried, now."""
        return now >= self._due

    def left_s(self, now: float) -> float:
        """How long it is until the next try."""
        return max(0.0, self._due - now)

    def clear(self) -> None:
        """It went well, is wanted no more, or is to be tried now."""
        self.attempts, self.reason, self._commit, self._due = 0, "", None, 0.0
