"""One commit's way to service: staged, guarded, run on all workers, recorded; or what stops it.

A commit that was refused is given up until the ref moves; one that failed for another reason (a
worker died, the disk is full, a port is taken) is tried again, for as long as it takes. Every step
costs what the change costs. Called by `reconciler.loop.reconcile` and, for files outside of the
repository, `renewing` beside.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from reconciler import log
from reconciler.loop.applied_ref import AppliedRef
from reconciler.loop.large.loading import LoadError, Loading
from reconciler.loop.newest import NewestCommit
from reconciler.loop.observer import Observer
from reconciler.loop.proposing import WORK_WITHIN_S, Proposing
from reconciler.loop.stager import StagedCommit, begun_by, planned
from reconciler.materials.external import ExternalFiles
from reconciler.parts import heard_again_within
from reconciler.reporting.announcing import Announcing
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Head
from reconciler.storage.kept.history import now
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun
from reconciler.transaction.events import Failure
from reconciler.transaction.retrying import Retrying
from reconciler.transaction.runner import Runner
from schemas.changes.plan import Plan

_WORK_CHANGES_PER_S = 200
# The digest of so many takes a millisecond or two.
_INLINE_CHANGES_MAX = 200

End = Literal["done", "refused", "later"]
"""What became of a try; "later" is to be tried again as it is."""


class Applying:
    """What every commit passes; knows nothing of when one is looked for."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        outcomes: Outcomes,
        proposing: Proposing,
        loading: Loading,
        external: ExternalFiles,
        retrying: Retrying,
        applied_ref: AppliedRef,
        newest: NewestCommit,
        observer: Observer,
        announcing: Announcing,
        wake: asyncio.Event,
    ) -> None:
        self._store = store
        self._runner = runner
        self._outcomes = outcomes
        self._proposing = proposing
        self._loading = loading
        self._external = external
        self._retrying = retrying
        self._applied_ref = applied_ref
        self._newest = newest
        self._observer = observer
        self._announcing = announcing
        self._wake = wake

    async def apply(self, head: Head, touched: frozenset[str] = frozenset()) -> End:
        """Have a commit served. Raises `RepositoryError` by which to hold, and others.

        `touched` are files outside of the repository with another content than runs.
        """
        began, is_new = time.monotonic(), head.commit != self._store.running.commit
        try:
            staged = await self._proposing.look_at(head, touched)
        except LoadError as error:
            raise self._delayed(f"cannot load {head.commit[:12]}: {error}") from None
        try:
            end = await self._carry_out(head, staged, began, touched)
        finally:
            if staged.bulk is not None:
                staged.bulk.close()
        if end == "done":
            self._loading.committed()
        # Not before: what cannot be read is found on the way, and again at each look.
        if is_new:
            self._follows_again()
        return end

    def _follows_again(self) -> None:
        """Nothing stands in the way any more of what was held for."""
        if self._outcomes.followed_again():
            self._announcing.announce()

    async def _carry_out(
        self, head: Head, staged: StagedCommit, began: float, touched: frozenset[str]
    ) -> End:
        running = self._store.running
        errors = [found for found in staged.candidate.diagnostics if found.severity == "error"]
        if errors:
            self._external.want(staged.outside)
            renewing = sorted(touched) if head.commit == running.commit else []
            self.refuse(head, lambda: self._outcomes.invalid(head, began, errors, renewing))
            return "refused"
        if not staged.changes:
            if head.commit != running.commit or running.tree is None:
                await self.follow(head, staged, began)
            self.settled()
            return "done"
        plan = planned(head, staged)
        blocked = self._proposing.blocked(plan, head.commit)
        if blocked is not None:
            self.refuse(head, lambda: self._outcomes.blocked(head, began, blocked))
            return "refused"
        base = running.commit
        begun = await self._begun(head, plan, staged)
        try:
            self._store.materials.keep(begun.puts, dict(staged.candidate.contents))
        except OSError as error:
            raise self.unwritable("keep certificates", error) from None
        heard_again_within(WORK_WITHIN_S + len(plan.changes) / _WORK_CHANGES_PER_S)
        failure = await self._runner.run(begun)
        if failure is not None:
            self._external.want(staged.outside)
            if failure.stage != "journal":
                # Of a failed write nobody knows yet what it will say after a restart.
                self._store.materials.dropped(begun.puts)
            return self._failed(head, began, begun, failure)
        self._retrying.clear()
        await self._applied_ref.settled()
        # What its messages say is read in the repository.
        await self._newest.asked()
        # Behind the commit point nothing is undone: one step that fails must not skip the others.
        for doing, step in (
            ("forgetting files", partial(self._store.materials.applied, plan.changes)),
            ("recording", partial(self._outcomes.applied, head, began, plan, base)),
            ("telling the other parts", partial(self._observer.applied, plan)),
        ):
            try:
                step()
            except Exception as error:  # noqa: BLE001  # whatever it is, the commit is applied
                log.internal_error(f"{doing} behind a commit", error)
        await self._store.settled()
        self._announcing.announce()
        return "done"

    async def _begun(self, head: Head, plan: Plan, staged: StagedCommit) -> Begun:
        making = partial(begun_by, self._store.running, head, plan, staged)
        if staged.bulk is None and len(plan.changes) > _INLINE_CHANGES_MAX:
            return await asyncio.to_thread(making)
        return making()

    async def follow(self, head: Head, staged: StagedCommit | None, began: float) -> None:
        """It changes no entity: what runs is that of this commit from now on."""
        base = self._store.running.commit
        moved = staged.moved if staged else ()
        files = staged.candidate.files if staged else {}
        whole = staged is not None and staged.whole
        bulk = staged.bulk if staged else None
        try:
            await self._store.follow(
                head.commit, head.tree, moved, now(), files, whole=whole, bulk=bulk
            )
        except OSError as error:
            raise self.unwritable("write the state", error) from None
        self._applied_ref.mark(head.commit)
        await self._applied_ref.settled()
        self._outcomes.unchanged(head, began, base, staged.warnings if staged else ())
        await self._store.settled()
        self._announcing.announce()

    def settled(self) -> None:
        """The newest commit is what runs."""
        self._follows_again()
        self._retrying.clear()
        self._outcomes.resolved()
        self._applied_ref.mark(self._store.running.commit)

    def refuse(self, head: Head, record: Callable[[], None], *, again: bool = False) -> None:
        """It is not tried again until the ref moves, unless the machine is what refuses it."""
        if not again and self._retrying.waits_for(head.commit):
            # What it failed of before is no longer what stands in its way.
            self._retrying.clear()
        self._retrying.give_up(head.commit)
        record()
        self._announcing.announce()

    def unwritable(self, doing: str, error: OSError) -> RepositoryError:
        """The error to hold by; it is tried again."""
        return self._delayed(f"cannot {doing}: {error.strerror or error}")

    def _delayed(self, reason: str) -> RepositoryError:
        """The error to hold by; it is tried again."""
        failure = Failure(reason, transient=True, stage="journal")
        self._retrying.failed(failure, asyncio.get_running_loop().time())
        return RepositoryError(reason)

    def _failed(self, head: Head, began: float, begun: Begun, failure: Failure) -> End:
        if not failure.transient:
            self.refuse(head, lambda: self._outcomes.failed(head, began, begun, failure))
            return "refused"
        delay = self._retrying.failed(failure, asyncio.get_running_loop().time(), head.commit)
        if failure.kind:
            # Whoever waits is told what stands in the way of which entity: it may be wrong there.
            record = partial(self._outcomes.failed, head, began, begun, failure)
            self.refuse(head, record, again=True)
            return "later"
        if delay:
            self._outcomes.delayed(head, failure)
            self._announcing.announce()
        else:
            log.warning("trying again", commit=head.commit, reason=failure.told)
            self._wake.set()
        return "later"
