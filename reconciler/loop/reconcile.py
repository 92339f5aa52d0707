"""The reconciliation loop: look at the source, stage what changed, run it, say what became of it.

Level-triggered: each look compares the newest commit with what runs, so nothing that happened in
between can be missed, and the newest commit always wins. A commit that was refused is not tried
again until the ref moves; one that failed for another reason (a worker died, the disk is full, a
port is taken) is, for as long as it takes. Every step costs what the change costs. Called by
`reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial

from reconciler import log
from reconciler.loop.loading import LoadError, Loading, SupersededError
from reconciler.loop.marking import Marking
from reconciler.loop.observer import Observer
from reconciler.loop.proposing import WORK_WITHIN_S, Proposing
from reconciler.loop.rebuilding import Rebuilding
from reconciler.loop.renewing import End, Renewing
from reconciler.loop.staging import StagedCommit, Stager, begun_by, now, planned
from reconciler.materials.completing import Machine
from reconciler.materials.external import ExternalFiles
from reconciler.parts import heard_again_within
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.errors import NoConfigurationError, RepositoryError
from reconciler.source.git.refs import APPLIED_REF
from reconciler.source.probing import Probe, StalledError
from reconciler.source.source import Head, Source, UnfetchedError
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun
from reconciler.transaction.events import Failure
from reconciler.transaction.retrying import Retrying
from reconciler.transaction.runner import Runner
from schemas.messages.control import LoadingStatus

# The safety net under the watcher. One look is a stat, a ref and a tree lookup.
POLL_S = 1.0
# A look is over long before, unless it finds work.
_LOOK_WITHIN_S = 30.0
_WORK_CHANGES_PER_S = 200


class Reconciler:
    """Owns the catalog and the decision what to do next."""

    def __init__(
        self,
        source: Source,
        store: Store,
        runner: Runner,
        outcomes: Outcomes,
        stager: Stager,
        rebuilding: Rebuilding,
        machine: Machine,
        marking: Marking,
        observer: Observer,
        wake: asyncio.Event,
    ) -> None:
        """`wake` is set by whoever knows that something may have moved."""
        self._source = source
        self._store = store
        self._runner = runner
        self._observer = observer
        self.outcomes = outcomes
        self.head: Head | None = None
        self._told = False
        self.given_up: str | None = None
        self.looked = asyncio.Event()
        self._wake = wake
        self._changed = asyncio.Event()
        self._rebuilding = rebuilding
        self._loading = Loading(source.directory, store, machine, self._newest)
        self._seen: str | None = None
        self.retrying = Retrying()
        self._marking = marking
        self.external = ExternalFiles(stager.opened)
        self._probe = Probe(source.probe)
        self._renewing = Renewing(self.external, store, outcomes, self.retrying, self._reconcile)
        self.proposing = Proposing(
            source, store, stager, self._loading, self.external, runner, observer
        )

    @property
    def problem(self) -> str | None:
        """Why the running state is held, whatever the newest commit is."""
        return self.outcomes.problem

    @property
    def loading(self) -> LoadingStatus | None:
        """How far a large commit is loaded, while it is."""
        return self._loading.progress

    def not_taken_over(self) -> list[str]:
        """What is to be said of files outside of the repository that differ from what is served."""
        return self.external.told()

    def wake(self) -> None:
        """Something may have moved: look now."""
        self._wake.set()

    def retry(self) -> None:
        """Look now, and try what was refused or waits to be tried again."""
        self.given_up = None
        self.retrying.clear()
        self._renewing.retry()
        self.wake()

    def notify(self) -> None:
        """Something that somebody may wait for is different now."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def next_change(self, timeout_s: float) -> None:
        """Waits for the next `notify`, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            heard_again_within(_LOOK_WITHIN_S)
            self._wake.clear()
            waiting = False
            try:
                await self._look()
            except UnfetchedError as error:
                waiting = self._source.fetch_problem is None
                self._hold(str(error), told=True)
            except NoConfigurationError as error:
                self._hold(str(error))
                self._refuse_empty(error)
            except RepositoryError as error:
                self._hold(str(error))
            except DamagedError as error:
                await self._rebuild(error)
            except SupersededError:
                log.info("a newer commit is there", given_up=self.head and self.head.commit[:12])
                self.wake()
            except OSError as error:
                # The disk or this machine: the commit is tried again, as it is.
                self._hold(str(self._unwritable("look at what is to be served", error)))
            except Exception as error:  # noqa: BLE001  # one bad look must not end the daemon
                self._give_up_internally(error)
            if not waiting:
                self.looked.set()
            try:
                self._observer.looked()
                self._marking.try_again()
            except Exception as error:  # noqa: BLE001  # what follows a look must not end looking
                self._hold_internally("looking around the repository", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _find_head(self) -> Head:
        """Return the newest commit. Raises `RepositoryError`; nothing touches a hanging one."""
        try:
            await self._probe.wait()
        except StalledError as error:
            self._source.probed(stalled=str(error))
            raise
        self._source.probed(stalled=None)
        return self._source.head()

    async def _newest(self) -> str | None:
        """Return the newest commit, if it can be told."""
        try:
            return (await self._find_head()).commit
        except RepositoryError:
            return None

    def _hold(self, problem: str, *, told: bool = False) -> None:
        """`told`: somebody else has it in the log."""
        if problem != self.problem:
            self.outcomes.problem, self._told = problem, told
            if not told:
                is_empty = self._store.running.is_empty
                doing = "there is nothing to serve yet" if is_empty else "holding the running state"
                log.warning(doing, reason=problem)
            self.notify()

    def found_damaged(self, damage: DamagedError) -> None:
        """Somebody has come upon a row that is not what was written."""
        self._rebuilding.found(damage)
        self.wake()

    async def _look(self) -> None:
        self._store.look()
        if (damage := self._rebuilding.due()) is not None:
            raise damage
        try:
            head = await self._find_head()
        except RepositoryError:
            # A certificate must not expire because nobody can tell what the newest commit is.
            await self._renewing.run()
            raise
        self.head = head
        if head.commit != self._seen:
            self._seen, self.given_up = head.commit, None
            self.retrying.clear()
            self.external.want({})
        running = self._store.running
        if await self._renewing.run():
            if head.commit == running.commit:
                return
            # Its refusal is no longer what was said last, and a file may have come that it names.
            self.given_up = None
        if head.commit == running.commit and running.tree is not None:
            if not self.external.differing:
                self._settled()
            return
        if not self._is_to_be_tried(head):
            return
        if head.tree == running.tree:
            self._follow(head, None, time.monotonic())
            self._settled()
            return
        await self._reconcile(head)
        if self.given_up == head.commit and running.commit is None:
            await self._serve_applied(head)

    def _is_to_be_tried(self, head: Head) -> bool:
        """Not what was refused, unless what was missing has come, nor what shall wait."""
        if head.commit == self.given_up and self.external.wanted_has_come():
            self.given_up = None
            self.retrying.clear()
        is_due = self.retrying.is_due(asyncio.get_running_loop().time())
        if head.commit == self.given_up and self.retrying.is_waiting and is_due:
            self.given_up = None
        return head.commit != self.given_up and is_due

    async def _serve_applied(self, head: Head) -> None:
        """The state was lost and nobody serves: what was applied last is better than nothing."""
        if not self._source.repository.refs.has(APPLIED_REF):
            return
        applied = self._source.head_of(APPLIED_REF)
        # What another daemon has applied of another branch is not ours.
        if applied != head and self._source.is_descendant(head.commit, applied.commit):
            log.warning("serving the commit that was applied last", commit=applied.commit[:12])
            refusal = self.outcomes.last_error
            await self._reconcile(applied)
            self.given_up, self.outcomes.last_error = head.commit, refusal

    async def _rebuild(self, damage: DamagedError) -> None:
        self._hold(str(damage))
        heard_again_within(WORK_WITHIN_S)
        if await self._rebuilding.run(damage):
            self.wake()

    def _settled(self) -> None:
        self._follows_again()
        self.retrying.clear()
        self.outcomes.resolved()
        self._marking.mark(self._store.running.commit)

    def _follows_again(self) -> None:
        if self.problem is not None:
            if not self._told:
                log.info("following again", ref=self._source.shown_ref)
            self.outcomes.problem = None
            self.notify()

    # One commit.

    async def _reconcile(self, head: Head, touched: frozenset[str] = frozenset()) -> End:
        """`touched` are files outside of the repository with another content than runs."""
        began, is_new = time.monotonic(), head.commit != self._store.running.commit
        try:
            staged = await self.proposing.look_at(head, touched)
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

    async def _carry_out(
        self, head: Head, staged: StagedCommit, began: float, touched: frozenset[str]
    ) -> End:
        running = self._store.running
        errors = [found for found in staged.candidate.diagnostics if found.severity == "error"]
        if errors:
            self.external.want(staged.outside)
            renewing = sorted(touched) if head.commit == running.commit else []
            self._refuse(head, lambda: self.outcomes.invalid(head, began, errors, renewing))
            return "refused"
        if not staged.changes:
            if head.commit != running.commit or running.tree is None:
                self._follow(head, staged, began)
            self._settled()
            return "done"
        plan = planned(head, staged)
        blocked = self.proposing.blocked(plan, head.commit)
        if blocked is not None:
            self._refuse(head, lambda: self.outcomes.blocked(head, began, blocked))
            return "refused"
        base = running.commit
        begun = begun_by(self._store.running, head, plan, staged)
        try:
            self._store.materials.keep(begun.puts, dict(staged.candidate.contents))
        except OSError as error:
            raise self._unwritable("keep certificates", error) from None
        heard_again_within(WORK_WITHIN_S + len(plan.changes) / _WORK_CHANGES_PER_S)
        failure = await self._runner.run(begun)
        if failure is not None:
            self.external.want(staged.outside)
            if failure.stage != "journal":
                # Of a failed write nobody knows yet what it will say after a restart.
                self._store.materials.dropped(begun.puts)
            return self._failed(head, began, begun, failure)
        self.retrying.clear()
        # Behind the commit point nothing is undone: one step that fails must not skip the others.
        for doing, step in (
            ("forgetting files", partial(self._store.materials.applied, plan.changes)),
            ("recording", partial(self.outcomes.applied, head, began, plan, base)),
            ("telling the other parts", partial(self._observer.applied, plan)),
        ):
            try:
                step()
            except Exception as error:  # noqa: BLE001  # whatever it is, the commit is applied
                log.internal_error(f"{doing} behind a commit", error)
        self.notify()
        return "done"

    def _follow(self, head: Head, staged: StagedCommit | None, began: float) -> None:
        base = self._store.running.commit
        moved = staged.moved if staged else ()
        files = staged.candidate.files if staged else {}
        whole = staged is not None and staged.whole
        bulk = staged.bulk if staged else None
        try:
            self._store.follow(head.commit, head.tree, moved, now(), files, whole=whole, bulk=bulk)
        except OSError as error:
            raise self._unwritable("write the state", error) from None
        self._marking.mark(head.commit)
        self.outcomes.unchanged(head, began, base, staged.warnings if staged else ())
        self.notify()

    def _failed(self, head: Head, began: float, begun: Begun, failure: Failure) -> End:
        if not failure.transient:
            self._refuse(head, lambda: self.outcomes.failed(head, began, begun, failure))
            return "refused"
        delay = self.retrying.failed(failure, asyncio.get_running_loop().time())
        if failure.kind:
            # Whoever waits is told what stands in the way of which entity: it may be wrong there.
            self._refuse(head, lambda: self.outcomes.failed(head, began, begun, failure))
            return "later"
        if delay:
            self.outcomes.delayed(head, failure)
            self.notify()
        else:
            log.warning("trying again", commit=head.commit, reason=failure.reason)
            self.wake()
        return "later"

    def _unwritable(self, doing: str, error: OSError) -> RepositoryError:
        return self._delayed(f"cannot {doing}: {error.strerror or error}")

    def _delayed(self, reason: str) -> RepositoryError:
        """The error to hold by; it is tried again."""
        failure = Failure(reason, transient=True, stage="journal")
        self.retrying.failed(failure, asyncio.get_running_loop().time())
        return RepositoryError(reason)

    def _refuse(self, head: Head, record: Callable[[], None]) -> None:
        self.given_up = head.commit
        record()
        self.notify()

    def _refuse_empty(self, error: NoConfigurationError) -> None:
        """Held like what cannot be read, and refused: somebody may wait for this very commit."""
        commit = error.commit or (self.head.commit if self.head else None)
        if commit is not None and commit != self.given_up:
            head, reason = Head(commit, ""), str(error)
            self._refuse(head, lambda: self.outcomes.empty(head, reason))

    def _hold_internally(self, doing: str, error: Exception) -> str:
        """A program error may come at each look: it is told once, and in status while it lasts."""
        sentence = log.internal_sentence(doing, error)
        if sentence != self.problem:
            log.error(sentence)
        self._hold(sentence, told=True)
        return sentence

    def _give_up_internally(self, error: Exception) -> None:
        sentence = self._hold_internally("applying a commit", error)
        head = self.head
        if head is not None and head.commit != self._store.running.commit:
            self.given_up = head.commit
            self.outcomes.internal(head, sentence)
        self._observer.failed()
        self.notify()
