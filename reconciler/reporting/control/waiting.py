"""The barrier behind `kakehi wait`: until every worker runs a commit, or none ever will.

Looks again whenever it is announced that something changed. Called by
`reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.reporting.announcing import Announcing
from reconciler.reporting.control.reconciling import Reconciling
from reconciler.source.git.repository_errors import (
    NoConfigurationError,
    NoRefError,
    RepositoryError,
    UnknownCommitError,
)
from reconciler.source.source import Source
from reconciler.storage.store import Store
from reconciler.transaction.runner import Runner
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.watching.binding import bound_nowhere
from schemas.messages.control import WaitRequest
from schemas.messages.results import WaitResult

_FULL_ID_CHARS = 40
_HEXADECIMAL = frozenset("0123456789abcdef")
# A change that nobody announced is seen after this at the latest.
_LOOK_S = 0.5
_AGAIN = "it is tried again by itself"


class NoCommitError(ValueError):
    """What is waited for is no commit, and cannot become one by waiting."""


@dataclass(slots=True)
class Waiting:
    """Answers `wait` requests."""

    source: Source
    store: Store
    reconciler: Reconciling
    supervisor: Supervisor
    runner: Runner
    announcing: Announcing
    strays: Callable[[], list[str]]
    """What is said of workers that serve and are not ours to lead."""
    may_be_told: Callable[[], bool]
    """Whether the repository knows what runs, or is not waited for."""

    async def wait(self, request: WaitRequest) -> WaitResult:
        """Returns when the outcome is known, after `timeout_s` at the latest.

        Raises `NoCommitError`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max(0.0, request.timeout_s)
        await self._asked()
        self._check(request.commit)
        # What was committed a moment ago may not have been noticed yet.
        self.reconciler.wake()
        while True:
            commit = self._commit_id(request.commit)
            result = (self._known(commit) or self._elsewhere(commit)) if commit else None
            if result is not None:
                return result
            left = deadline - loop.time()
            if left <= 0:
                return self._timed_out(request.commit, commit)
            await self.announcing.wait(min(left, _LOOK_S))
            await self._asked()

    async def _asked(self) -> None:
        """Whether state and repository answer is seen by threads: the loop waits for neither."""
        await asyncio.gather(self.store.asked(), self.reconciler.asked())

    def _check(self, text: str) -> None:
        """What may still come is waited for: HEAD before its first commit, an id to be fetched."""
        try:
            repository = self.source.repository
        except RepositoryError:
            return
        if text == "HEAD":
            # A branch that had commits and has none now was deleted.
            may_come = self.source.is_remote or self.store.running.commit is None
        else:
            may_come = self.source.is_remote and set(text.lower()) <= _HEXADECIMAL
        if may_come or self._commit_id(text) is not None:
            return
        try:
            repository.refs.find_commit(text)
        except RepositoryError as error:
            raise NoCommitError(str(error)) from None

    def _commit_id(self, text: str) -> str | None:
        """The full id; a full one is taken as it is, since it may not have been fetched yet."""
        try:
            return self.source.repository.refs.find_commit(text)
        except RepositoryError:
            text = text.lower()
            is_full = len(text) == _FULL_ID_CHARS and set(text) <= _HEXADECIMAL
            return text if is_full else None

    def _known(self, commit: str) -> WaitResult | None:
        running = self.store.running.commit
        head = self._head()
        # A rollback makes an ancestor of what runs the wanted commit: then its descendant, which
        # still runs, is not what is waited for.
        runs = running == commit or (
            head != commit and running is not None and self.source.is_descendant(running, commit)
        )
        if runs and running != commit and self._was_refused(commit):
            message = f"it was refused, and {(running or '')[:12]}, which contains it, runs"
            return self._result("superseded", commit, message)
        if runs:
            waits = self.laggards() or self._unheard() or not self.may_be_told()
            told = "; ".join(bound_nowhere(self.supervisor).values())
            return None if waits else self._result("applied", commit, told)
        if head is None:
            return None
        on_branch, retrying = self.source.is_descendant(head, commit), self.reconciler.retrying
        if on_branch and retrying.given_up == head and not retrying.waits_for(head):
            return self._refused(commit, head)
        if not on_branch and self.reconciler.outcomes.history.has(commit):
            message = f"the branch has moved to {head[:12]}, which does not contain it"
            return self._result("superseded", commit, message)
        return None

    def _refused(self, commit: str, head: str) -> WaitResult | None:
        """How the newest commit was refused, which has this one in it."""
        error = self.reconciler.outcomes.last_error
        if error is None or error["commit"] != head:
            return None
        which = "" if head == commit else f"{head[:12]}, which contains it: "
        again = f" ({_AGAIN})" if self.reconciler.retrying.waits_for(head) else ""
        return self._result("refused", commit, which + error["message"] + again)

    def _was_refused(self, commit: str) -> bool:
        found = self.reconciler.outcomes.history.find(commit)
        return found is not None and found["outcome"] == "refused"

    def _elsewhere(self, commit: str) -> WaitResult | None:
        """What is not on the branch, or not here at all: to wait for it would be in vain."""
        head = self._head()
        if head is None and self.reconciler.problem is not None:
            # The loop has found it so, too.
            return self._without_ref(commit)
        if head is None or self.source.is_remote or self.source.is_descendant(head, commit):
            return None
        try:
            repository = self.source.repository
            repository.refs.find_commit(commit)
            is_detached = repository.refs.head() == "HEAD"
        except UnknownCommitError:
            # What runs may be lost there, while workers are on their way to it.
            if commit == self.store.running.commit:
                return None
            return self._result("timeout", commit, self._not_here(commit))
        except RepositoryError:
            return None
        message = self._not_on_branch(head)
        if is_detached:
            message += (
                f"; HEAD of {self.source.directory} is detached: "
                f"git switch {self.source.shown_ref}, and merge it"
            )
        return self._result("timeout", commit, message)

    def _without_ref(self, commit: str) -> WaitResult | None:
        """There is no branch that it could be on, and nobody is about to make one."""
        try:
            self.source.check_ref()
        except NoRefError as error:
            return self._result("timeout", commit, str(error))
        except RepositoryError:
            return None
        return None

    def _not_on_branch(self, head: str) -> str:
        return f"it is not on {self.source.shown_ref}, which is at {head[:12]}"

    def _is_unfetched(self, commit: str | None) -> bool:
        """Whether it may be at the remote, which cannot be fetched from."""
        if self.source.fetch_problem is None:
            return False
        head = self._head()
        return commit is None or head is None or not self.source.is_descendant(head, commit)

    def _is_here(self, commit: str) -> bool:
        try:
            self.source.repository.refs.find_commit(commit)
        except RepositoryError:
            return False
        return True

    def _not_here(self, commit: str) -> str:
        return f"the repository {self.source.directory} has no commit {commit[:12]}"

    def _head(self) -> str | None:
        """The wanted commit now, which the reconciler may not have seen yet."""
        try:
            return self.source.head().commit
        except NoConfigurationError as error:
            return error.commit
        except RepositoryError:
            return None

    def _unheard(self) -> str | None:
        """Why it is not what runs that answers: nobody can connect, or others serve as well."""
        if strays := self.strays():
            return "; ".join(strays)
        silent = bound_nowhere(self.supervisor)
        is_so = silent and len(silent) >= self.store.running.state.count("listener")
        return "; ".join(silent.values()) if is_so else None

    def laggards(self) -> list[str]:
        """The workers that do not hold the running generation, or an open transaction's."""
        running = self.store.running
        digest = running.state.digest
        names = [
            f"worker {slot.id}"
            for slot in self.supervisor.slots
            if slot.worker is None
            or slot.stands_by
            or (slot.worker.generation, slot.worker.digest) != (running.generation, digest)
        ]
        if not names and self.runner.open is not None and self.store.unfinished is not None:
            # Committed everywhere, and not released yet: "done" comes in a moment.
            names = [f"worker {worker}" for worker in sorted(self.runner.open.waiting)]
        return names

    def _timed_out(self, text: str, commit: str | None) -> WaitResult:
        head = self._head()
        if commit and head and self.source.is_descendant(head, commit):
            # One that is tried again may still be applied; until now it was refused.
            refused = self._refused(commit, head)
            if refused is not None:
                return refused
        laggards = self.laggards()
        opened = self.runner.open
        if opened is not None and opened.waiting:
            laggards = [f"worker {worker}" for worker in sorted(opened.waiting)]
        return self._result("timeout", commit or text, self._why(text, commit, laggards), laggards)

    def _why(self, text: str, commit: str | None, laggards: list[str]) -> str:
        if self._is_unfetched(commit):
            return f"fetching fails: {self.source.fetch_problem}"
        if commit is None:
            return f"{text} names no commit of the repository"
        if self.reconciler.retrying.is_waiting:
            return f"{self.reconciler.retrying.reason}; {_AGAIN}"
        if laggards:
            return f"{', '.join(laggards)} did not get there"
        if self.reconciler.problem is not None:
            return self.reconciler.problem
        unheard = self._unheard()
        if unheard is not None:
            return unheard
        head = self._head()
        if head is not None and not self.source.is_descendant(head, commit):
            return self._not_on_branch(head) if self._is_here(commit) else self._not_here(commit)
        return "it has not been looked at yet"

    def _result(
        self, outcome: str, commit: str, message: str, laggards: list[str] | None = None
    ) -> WaitResult:
        running, head = self.store.running, self.reconciler.head
        is_tried = head is not None and self.reconciler.retrying.waits_for(head.commit)
        is_late = self._is_unfetched(commit) or self._unheard() is not None
        return {
            "outcome": outcome,  # type: ignore[typeddict-item]  # one of the four words
            "commit": commit,
            "applied": running.commit,
            "generation": running.generation,
            "message": message,
            "laggards": laggards or [],
            "tried_again": is_tried or (outcome == "timeout" and is_late),
        }
