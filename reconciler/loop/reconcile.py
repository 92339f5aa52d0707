"""The reconciliation loop: look at the source, have what is new applied, hold where that cannot be.

Level-triggered: each look compares the newest commit with what runs, so nothing that happened in
between can be missed, and the newest commit always wins. What becomes of one is up to `applying`.
Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from reconciler import garbage, log
from reconciler.loop.applied_ref import AppliedRef
from reconciler.loop.applying import Applying
from reconciler.loop.large.loading import Loading, SupersededError
from reconciler.loop.newest import NewestCommit
from reconciler.loop.observer import Observer
from reconciler.loop.proposing import WORK_WITHIN_S, Proposing
from reconciler.loop.renewing import Renewing
from reconciler.loop.repair.rebuilding import Rebuilding
from reconciler.loop.stager import Stager
from reconciler.materials.completing import Machine
from reconciler.materials.external import ExternalFiles
from reconciler.parts import heard_again_within, until_turn
from reconciler.reporting.announcing import Announcing
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.repository_errors import NoConfigurationError, RepositoryError
from reconciler.source.source import Head, Source, UnfetchedError
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from reconciler.transaction.retrying import Retrying
from reconciler.transaction.runner import Runner
from schemas.messages.status import LoadingStatus

# The safety net under the watcher. One look is a stat, a ref and a tree lookup.
POLL_S = 1.0
# From what is announced to the answer of who waits for it: the event, the question, its connection.
_TURNS_TO_ANSWER = 4
# A look is over long before, unless it finds work.
_LOOK_WITHIN_S = 30.0


class Reconciler:
    """Decides when to look, and what is to be tried."""

    def __init__(
        self,
        source: Source,
        store: Store,
        runner: Runner,
        outcomes: Outcomes,
        stager: Stager,
        external: ExternalFiles,
        rebuilding: Rebuilding,
        machine: Machine,
        applied_ref: AppliedRef,
        observer: Observer,
        announcing: Announcing,
        wake: asyncio.Event,
    ) -> None:
        """`wake` is set by whoever knows that something may have moved."""
        self._source = source
        self._store = store
        self._observer = observer
        self._rebuilding = rebuilding
        self._applied_ref = applied_ref
        self._announcing = announcing
        self._wake = wake
        self.outcomes = outcomes
        self.head: Head | None = None
        self._seen: str | None = None
        self.looked = asyncio.Event()
        self.retrying = Retrying()
        self.external = external
        self._newest = NewestCommit(source)
        self._loading = Loading(source.directory, store, machine, self._newest.commit)
        self.proposing = Proposing(
            source, store, stager, self._loading, self.external, runner, observer
        )
        self._applying = Applying(
            store,
            runner,
            outcomes,
            self.proposing,
            self._loading,
            self.external,
            self.retrying,
            applied_ref,
            self._newest,
            observer,
            announcing,
            wake,
        )
        self._renewing = Renewing(self.external, store, outcomes, self.retrying, self._applying)

    @property
    def problem(self) -> str | None:
        """Why the running state is held, whatever the newest commit is."""
        return self.outcomes.problem

    @property
    def loading(self) -> LoadingStatus | None:
        """How far a commit is loaded, while it is."""
        return self._loading.progress or self.proposing.progress

    def not_taken_over(self) -> list[str]:
        """What is to be said of files outside of the repository that differ from what is served."""
        return self.external.told(waits=not self._renewing.can_renew)

    async def asked(self) -> None:
        """Have a thread see whether the repository answers, before it is asked on the loop."""
        await self._newest.asked()

    def wake(self) -> None:
        """Something may have moved: look now."""
        self._wake.set()

    def retry(self) -> None:
        """Look now, and try what was refused or waits to be tried again."""
        self.retrying.take_up()
        self.retrying.clear()
        self._renewing.retry()
        self.wake()

    async def run(self) -> None:
        """Look again whenever something may have moved, until cancelled."""
        while True:
            heard_again_within(_LOOK_WITHIN_S)
            self._wake.clear()
            waiting = False
            try:
                await self._look()
            except UnfetchedError as error:
                waiting = self._source.fetch_problem is None
                self._hold(str(error), told=True)
            except RepositoryError as error:
                self._hold(str(error))
            except DamagedError as error:
                await self._rebuild(error)
            except SupersededError:
                log.info("a newer commit is there", given_up=self.head and self.head.commit[:12])
                self.wake()
            except OSError as error:
                # The disk or this machine: the commit is tried again, as it is.
                self._hold(str(self._applying.unwritable("look at what is to be served", error)))
            except Exception as error:  # noqa: BLE001  # one bad look must not end the daemon
                self._give_up_internally(error)
            if not waiting:
                self.looked.set()
            # Who waits for a commit does not wait for what follows it, nor for another look.
            for _ in range(_TURNS_TO_ANSWER):
                await asyncio.sleep(0)
            try:
                self._observer.looked()
                self._applied_ref.try_again()
            except Exception as error:  # noqa: BLE001  # what follows a look must not end looking
                self._hold_internally("looking around the repository", error)
            # Who waited for the look has been told.
            garbage.collect_if_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_turn(POLL_S)):
                    await self._wake.wait()

    def _hold(self, problem: str, *, told: bool = False) -> None:
        """`told`: somebody else has it in the log."""
        if self.outcomes.held(problem, told_elsewhere=told):
            if not told:
                is_empty = self._store.running.is_empty
                doing = "there is nothing to serve yet" if is_empty else "holding the running state"
                log.warning(doing, reason=problem)
            self._announcing.announce()

    def found_damaged(self, damage: DamagedError) -> None:
        """Somebody has come upon a row that is not what was written."""
        self._rebuilding.found(damage)
        self.wake()

    async def _look(self) -> None:
        try:
            await self._look_at_newest()
        except NoConfigurationError as error:
            refused = self._refuse_empty(error)
            if refused is not None:
                await self._serve_applied(refused)
            self._hold(str(error))

    async def _look_at_newest(self) -> None:
        await self._store.asked()
        self._store.look()
        if (damage := self._rebuilding.due()) is not None:
            raise damage
        try:
            head = await self._newest.head()
        except RepositoryError:
            # A certificate must not expire because nobody can tell what the newest commit is.
            await self._renewing.run()
            raise
        self.head = head
        if head.commit != self._seen:
            self._seen = head.commit
            self.retrying.take_up()
            self.retrying.clear()
            self.external.want({})
        running = self._store.running
        if await self._renewing.run():
            if head.commit == running.commit:
                return
            # Its refusal is no longer what was said last, and a file may have come that it names.
            self.retrying.take_up()
        if head.commit == running.commit and running.tree is not None:
            if not self.external.differing:
                self._applying.settled()
            return
        if not await self._is_to_be_tried(head):
            return
        if head.tree == running.tree:
            await self._applying.follow(head, None, time.monotonic())
            self._applying.settled()
            return
        await self._applying.apply(head)
        if self.retrying.given_up == head.commit:
            await self._serve_applied(head.commit)

    async def _is_to_be_tried(self, head: Head) -> bool:
        """Not what was refused, unless what was missing has come, nor what shall wait."""
        if head.commit == self.retrying.given_up and await self.external.wanted_has_come():
            self.retrying.take_up()
            self.retrying.clear()
        is_due = self.retrying.is_due(asyncio.get_running_loop().time())
        is_given_up = head.commit == self.retrying.given_up
        if is_given_up and self.retrying.waits_for(head.commit) and is_due:
            self.retrying.take_up()
        return head.commit != self.retrying.given_up and is_due

    async def _serve_applied(self, refused: str) -> None:
        """Where the state was lost, or is older, what was applied last is better than that.

        Workers that serve something later have been asked before.
        """
        running = self._store.running.commit
        is_older = self._applied_ref.is_older(running)
        if running is not None and not is_older:
            return
        last = self._applied_ref.last(refused)
        if last is None:
            return
        applied = self._source.head_of(last.ref)
        # By its own id, which an older state has, it is known as ours wherever the branch is now.
        is_ours = is_older or self._source.is_descendant(refused, applied.commit)
        if applied.commit != refused and is_ours:
            what = "what ran last is lost" if is_older else "nothing is known of what ran"
            log.warning(
                "serving the commit that was applied last",
                commit=applied.commit[:12],
                by=(last.by and last.by.place) or "unknown",
                reason=f"{what}, and {refused[:12]} is refused",
            )
            refusal, is_final = self.outcomes.said(), not self.retrying.waits_for(refused)
            await self._applying.apply(applied)
            if is_final:
                self.retrying.give_up(refused)
            self.outcomes.restore(*refusal)

    async def _rebuild(self, damage: DamagedError) -> None:
        heard_again_within(WORK_WITHIN_S)
        try:
            confirmed = await self._rebuilding.confirmed(damage)
        except OSError:
            self._hold(self._rebuilding.problem or str(damage))
            return
        if confirmed is None:
            # What failed by it need not wait any longer.
            self.retrying.clear()
            self.wake()
            return
        self._hold(str(confirmed))
        if await self._rebuilding.run(confirmed):
            self.wake()

    def _refuse_empty(self, error: NoConfigurationError) -> str | None:
        """Held like what cannot be read, and refused: somebody may wait for this very commit.

        Return it, where it was not refused before.
        """
        commit = error.commit or (self.head.commit if self.head else None)
        if commit is None or commit == self.retrying.given_up:
            return None
        head, reason = Head(commit, ""), str(error)
        self._applying.refuse(head, lambda: self.outcomes.empty(head, reason))
        return commit

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
            self.retrying.give_up(head.commit)
            self.outcomes.internal(head, sentence)
        self._observer.failed()
        self._announcing.announce()
