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
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from reconciler import log
from reconciler.catalog.catalog import (
    named_together,
    outside_files,
)
from reconciler.catalog.views import StagedView
from reconciler.loop.loading import BYTES_MAX, FILES_MAX, LoadError, Loading
from reconciler.loop.marking import Marking
from reconciler.loop.observer import Observer
from reconciler.loop.rebuilding import Rebuilding
from reconciler.loop.staging import StagedCommit, Stager, digest_after, leaves_nothing
from reconciler.materials.completing import Machine
from reconciler.materials.external import ExternalFiles
from reconciler.parts import heard_again_within
from reconciler.planning import guards
from reconciler.planning.consequences import Meaning
from reconciler.planning.planner import make_plan
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.probing import Probe, StalledError
from reconciler.source.repository import APPLIED_REF, NoConfigurationError, RepositoryError
from reconciler.source.source import Changed, Head, Source, UnfetchedError
from reconciler.source.tree_diff import ManyFilesError
from reconciler.storage.file.database import DamagedError
from reconciler.storage.reading.running import Running
from reconciler.storage.reading.state import StoredState
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun, Puts
from reconciler.transaction.events import Failure
from reconciler.transaction.retrying import Retrying
from reconciler.transaction.runner import Runner
from schemas.changes.plan import Plan, Verdict
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import EntityKey
from schemas.messages.control import LoadingStatus

# The safety net under the watcher. One look is a stat, a ref and a tree lookup.
POLL_S = 1.0
# A look is over long before, unless it finds work: that takes longer with what there is to do, and
# may have to wait until each worker has come up.
_LOOK_WITHIN_S = 30.0
_WORK_WITHIN_S = 300.0
_WORK_BYTES_PER_S = 50_000
_WORK_CHANGES_PER_S = 200
# To read so many takes a millisecond or two.
_INLINE_FILES_MAX = 50

_End = Literal["done", "refused", "later"]
"""What became of a try; "later" is to be tried again as it is."""


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
        self._stager = stager
        self._rebuilding = rebuilding
        self._loading = Loading(source.directory, store, machine)
        self._seen: str | None = None
        self.retrying = Retrying()
        self._marking = Marking(source, outcomes)
        self._external = ExternalFiles(stager.opened)
        self._probe = Probe(source.probe)
        self._renewing = False

    @property
    def problem(self) -> str | None:
        """Why the running state is held, whatever the newest commit is."""
        return self.outcomes.problem

    @property
    def loading(self) -> LoadingStatus | None:
        """How far a large commit is loaded, while it is."""
        return self._loading.progress

    def external_directories(self) -> set[Path]:
        """Where files lie that entities name and that are not in the repository."""
        return self._external.directories()

    def not_taken_over(self) -> list[str]:
        """What is to be said of files outside of the repository that differ from what is served."""
        return self._external.told()

    def wake(self) -> None:
        """Something may have moved: look now."""
        self._wake.set()

    def retry(self) -> None:
        """Look now, and try what was refused or waits to be tried again."""
        self.given_up = None
        self.retrying.clear()
        self._renewing |= bool(self._external.differing)
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
        try:
            await self._keep_looking()
        finally:
            self._marking.finish()

    async def _keep_looking(self) -> None:
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
            except Exception as error:  # noqa: BLE001  # one bad look must not end the daemon
                self._give_up_internally(error)
            if not waiting:
                self.looked.set()
            try:
                self._observer.looked()
                self._marking.mark_soon()
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
            self._source.stalled = str(error)
            raise
        self._source.stalled = None
        return self._source.head()

    def _hold(self, problem: str, *, told: bool = False) -> None:
        """`told`: somebody else has it in the log."""
        if problem != self.problem:
            self.outcomes.problem, self._told = problem, told
            if not told:
                held = len(self._store.running.state) > 0
                doing = "holding the running state" if held else "there is nothing to serve yet"
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
            await self._renew(None)
            raise
        self.head = head
        if head.commit != self._seen:
            self._seen, self.given_up = head.commit, None
            self.retrying.clear()
            self._external.want({})
        running = self._store.running
        if await self._renew(head):
            return
        if head.commit == running.commit and running.tree is not None:
            if not self._external.differing:
                self._settled()
            return
        if head.commit == self.given_up and self._external.wanted_has_come():
            self.given_up = None
            self.retrying.clear()
        is_due = self.retrying.is_due(asyncio.get_running_loop().time())
        if head.commit == self.given_up and self.retrying.is_waiting and is_due:
            self.given_up = None
        if head.commit == self.given_up or not is_due:
            return
        if head.tree == running.tree:
            self._follow(head, None, time.monotonic())
            self._settled()
            return
        await self._reconcile(head)
        if self.given_up == head.commit and running.commit is None:
            await self._serve_applied(head)

    async def _serve_applied(self, head: Head) -> None:
        """The state was lost and nobody serves: what was applied last is better than nothing."""
        if not self._source.repository.has_ref(APPLIED_REF):
            return
        applied = self._source.head_of(APPLIED_REF)
        # What another daemon has applied of another branch is not ours.
        if applied != head and self._source.is_descendant(head.commit, applied.commit):
            log.warning("serving the commit that was applied last", commit=applied.commit[:12])
            refusal = self.outcomes.last_error
            await self._reconcile(applied)
            self.given_up, self.outcomes.last_error = head.commit, refusal

    async def _renew(self, head: Head | None) -> bool:
        """Take over files outside of the repository, for the commit that runs.

        Also while a newer commit is refused, or cannot be found (`head` is None): an old
        certificate must not expire because of that. Tells whether this look is over.
        """
        running = self._store.running
        if self._external.look(self._outside_files()):
            self._renewing = True
            self.retrying.clear()
        if not self._renewing or running.commit is None or running.tree is None:
            return False
        if not self.retrying.is_due(asyncio.get_running_loop().time()):
            return False
        self._renewing = False
        try:
            self._renewing = await self._renew_files(Head(running.commit, running.tree)) == "later"
        except RepositoryError:
            self._renewing = True
            raise
        # What was taken over differs no more, which status shall not have to wait for.
        self._renewing |= self._external.look(self._outside_files())
        if head is None or head.commit == running.commit:
            return True
        # Its refusal is no longer what was said last, and a file may have come that it names.
        self.given_up = None
        return False

    async def _renew_files(self, running: Head) -> _End:
        touched = self._external.differing
        log.info("files outside have changed", files=",".join(sorted(touched)))
        end = await self._reconcile(running, touched)
        apart = named_together(self._store.running.state, touched)
        if end != "refused" or len(apart) < 2:
            self._note_files(running, touched, end)
            return end
        # One broken certificate must not keep the others from being renewed.
        ends: dict[frozenset[str], _End] = {}
        for some in apart:
            ends[some] = await self._reconcile(running, some)
            self._note_files(running, some, ends[some])
        if "later" in ends.values():
            return "later"
        refused = [some for some in apart if ends[some] == "refused"]
        if refused and ends[apart[-1]] != "refused":
            # What is wrong is what shall be said last.
            await self._reconcile(running, frozenset().union(*refused))
        return "done"

    def _note_files(self, running: Head, paths: frozenset[str], end: _End) -> None:
        """Keep the reason why files were not taken over: the last error is soon that of others."""
        error = self.outcomes.last_error
        if end != "done" and error is not None and error["commit"] == running.commit:
            self._external.refused(paths, error["message"])

    async def _rebuild(self, damage: DamagedError) -> None:
        self._hold(str(damage))
        heard_again_within(_WORK_WITHIN_S)
        if await self._rebuilding.run():
            self.wake()

    def _settled(self) -> None:
        self._follows_again()
        self.retrying.clear()
        self.outcomes.resolved()
        self._marking.wanted = self._store.running.commit

    def _follows_again(self) -> None:
        if self.problem is not None:
            if not self._told:
                log.info("following again", ref=self._source.shown_ref)
            self.outcomes.problem = None
            self.notify()

    # One commit.

    async def _reconcile(self, head: Head, touched: frozenset[str] = frozenset()) -> _End:
        """`touched` are files outside of the repository with another content than runs."""
        began, is_new = time.monotonic(), head.commit != self._store.running.commit
        staged = await self._look_at(head, touched)
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

    async def _look_at(self, head: Head, touched: frozenset[str]) -> StagedCommit:
        """What the commit changes."""
        heard_again_within(_WORK_WITHIN_S)
        try:
            with self._store.snapshot() as seen:
                changed = await self._changed_files(seen.tree, head.tree)
                if changed.size > BYTES_MAX:
                    raise ManyFilesError
                changed = replace(changed, others=changed.others | touched)
                heard_again_within(_WORK_WITHIN_S + changed.size / _WORK_BYTES_PER_S)
                return await self._stage(seen.state, changed)
        except ManyFilesError:
            running = self._store.running
            try:
                staged = await self._loading.stage(running, head.commit, head.tree, touched)
            except LoadError as error:
                raise self._delayed(f"cannot load {head.commit[:12]}: {error}") from None
        return self._with_plan_warnings(staged)

    async def _changed_files(self, base: str | None, tree: str) -> Changed:
        """Raises `ManyFilesError`. Very few are read at once, more in a thread."""
        with contextlib.suppress(ManyFilesError):
            return self._source.changed(base, tree, _INLINE_FILES_MAX)
        return await asyncio.to_thread(self._source.changed, base, tree, FILES_MAX)

    async def _carry_out(
        self, head: Head, staged: StagedCommit, began: float, touched: frozenset[str]
    ) -> _End:
        running = self._store.running
        errors = [found for found in staged.candidate.diagnostics if found.severity == "error"]
        if errors:
            self._external.want(staged.outside)
            renewing = sorted(touched) if head.commit == running.commit else []
            self._refuse(head, lambda: self.outcomes.invalid(head, began, errors, renewing))
            return "refused"
        if not staged.changes:
            if head.commit != running.commit or running.tree is None:
                self._follow(head, staged, began)
            self._settled()
            return "done"
        if staged.bulk is not None:
            # It was put in order where it was staged, and nobody reads what each change does.
            plan = Plan(head.commit, staged.changes, staged.warnings)
        else:
            plan = make_plan(staged.changes, head.commit, staged.warnings)
        blocked = self._blocked(plan, head.commit)
        if blocked is not None:
            self._refuse(head, lambda: self.outcomes.blocked(head, began, blocked))
            return "refused"
        base = running.commit
        begun = self._begun(head, plan, staged)
        try:
            self._store.materials.keep(begun.puts, dict(staged.candidate.contents))
        except OSError as error:
            raise self._unwritable("keep certificates", error) from None
        heard_again_within(_WORK_WITHIN_S + len(plan.changes) / _WORK_CHANGES_PER_S)
        failure = await self._runner.run(begun)
        if failure is not None:
            self._external.want(staged.outside)
            if failure.stage != "journal":
                # Of a failed write nobody knows yet what it will say after a restart.
                self._store.materials.dropped(begun.puts)
            return self._failed(head, began, begun, failure)
        self.retrying.clear()
        self._marking.wanted = head.commit
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

    def _outside_files(self) -> dict[str, frozenset[str]]:
        return outside_files(self._store.running.state)

    async def _stage(self, state: StoredState, changed: Changed) -> StagedCommit:
        return self._with_plan_warnings(await self._stager.stage(state, changed))

    def _with_plan_warnings(self, staged: StagedCommit) -> StagedCommit:
        # What else there is to warn of lives in other parts, on the loop.
        warnings = (*staged.warnings, *self._observer.plan_warnings(staged.changes))
        return replace(staged, warnings=warnings)

    async def plan(
        self,
        wanted: Callable[[Running], Changed],
        commit: str | None,
        meaning: Meaning,
    ) -> tuple[Plan | None, Sequence[Diagnostic], Running]:
        """What files would change, without any effect; the plan is None when they are invalid.

        `wanted` tells them against what runs at one moment, which is returned as well: a commit
        that goes through meanwhile is not in the answer, neither in part nor as a whole. `meaning`
        tells what the changes mean for others, as it was and as it would be.
        """
        with self._store.snapshot() as base:
            changed = wanted(base)
            # What the machine's own files have by now is looked at as a commit would look at it.
            changed = replace(changed, others=changed.others | self._external.differing)
            staged = await self._stage(base.state, changed)
            is_empty = staged.candidate.ok and leaves_nothing(base, changed)
            desired = {each.key: each.after for each in staged.changes}
            after = StagedView(base.state, desired, {})
            meant = await asyncio.to_thread(meaning, staged.changes, base.state, after)
        found = [*changed.warnings, *staged.candidate.diagnostics]
        if is_empty:
            message = "there is no configuration: no *.yaml file is left"
            found.append(Diagnostic("error", "", 0, 0, message))
        if not staged.candidate.ok or is_empty:
            return None, found, base
        live = self._observer.live(staged.changes)
        plan = make_plan(staged.changes, commit, staged.warnings, live)
        return replace(plan, verdict=self._verdict(plan), consequences=meant), found, base

    def _verdict(self, plan: Plan) -> Verdict | None:
        """Why the commit of a valid plan would be refused now, as far as that can be known."""
        blocked = self._blocked(plan, plan.commit)
        if blocked is not None:
            return Verdict("guard", blocked)
        obstacle = self._runner.obstacle(plan.changes)
        if obstacle is None:
            return None
        key = EntityKey(obstacle.kind, obstacle.name)
        return Verdict("prepare", f"{key}: {obstacle.reason}")

    def _begun(self, head: Head, plan: Plan, staged: StagedCommit) -> Begun:
        running = self._store.running
        bulk = staged.bulk
        puts: Puts
        if bulk is not None:
            puts, removes, digest = bulk.puts, bulk.removes, bulk.digest
        else:
            puts = tuple(change.after for change in plan.changes if change.after is not None)
            removes = tuple(change.key for change in plan.changes if change.after is None)
            digest = digest_after(running.state.digest, plan.changes)
        return Begun(
            generation=running.generation + 1,
            base_generation=running.generation,
            base_digest=running.state.digest,
            digest=digest,
            commit=head.commit,
            tree=head.tree,
            at=_now(),
            puts=puts,
            removes=removes,
            moved=staged.moved,
            files=staged.candidate.files,
            whole=staged.whole,
            bulk=bulk,
        )

    def _blocked(self, plan: Plan, commit: str | None) -> str | None:
        # Only a plan that removes frontends can be what the guards look for.
        if not plan.counts("frontend")["remove"]:
            return None
        message = self._source.message(commit) if commit else ""
        return guards.refusal(plan, self._store.running.state, message)

    # What became of it.

    def _follow(self, head: Head, staged: StagedCommit | None, began: float) -> None:
        base = self._store.running.commit
        moved = staged.moved if staged else ()
        files = staged.candidate.files if staged else {}
        whole = staged is not None and staged.whole
        bulk = staged.bulk if staged else None
        try:
            self._store.follow(head.commit, head.tree, moved, _now(), files, whole=whole, bulk=bulk)
        except OSError as error:
            raise self._unwritable("write the state", error) from None
        self._marking.wanted = head.commit
        self.outcomes.unchanged(head, began, base, staged.warnings if staged else ())
        self.notify()

    def _failed(self, head: Head, began: float, begun: Begun, failure: Failure) -> _End:
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
