"""The reconciliation loop: look at the source, stage what changed, run it, say what became of it.

Level-triggered: each look compares the newest commit with what runs, so nothing that happened in
between can be missed, and the newest commit always wins. A commit that was refused is not tried
again until the ref moves; one that failed for a reason of ours (a worker died, the disk is full)
is. Every step costs what the change costs. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from reconciler import log
from reconciler.catalog.catalog import (
    Candidate,
    files_naming,
    named_together,
    outside_files,
    stage,
)
from reconciler.catalog.coverage import claims
from reconciler.catalog.relations import ORDERED, View
from reconciler.catalog.views import MemoryView
from reconciler.errors import UnreadableError
from reconciler.materials.completing import NOTHING_HERE, Machine
from reconciler.materials.external import ExternalFiles, Signature, signature_of
from reconciler.materials.sealed import SealedError
from reconciler.parts import heard_again_within
from reconciler.planning import guards
from reconciler.planning.differ import diff_entities
from reconciler.planning.planner import NOTHING_KNOWN, Live, make_plan
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.probing import Probe, StalledError
from reconciler.source.repository import APPLIED_REF, NoConfigurationError, RepositoryError
from reconciler.source.source import Changed, Head, Source, UnfetchedError
from reconciler.storage.database import DamagedError
from reconciler.storage.records import Begun
from reconciler.storage.store import Store
from reconciler.transaction.events import Failure
from reconciler.transaction.runner import Order, Runner
from schemas.change import Change
from schemas.diagnostic import Diagnostic
from schemas.entity import Entity, EntityKey, entity_hash
from schemas.plan import Plan
from schemas.state import State

# The safety net under the watcher. One look is a stat, a ref and a tree lookup.
POLL_S = 1.0
# A worker that dies while it prepares may have been hit by chance, or by the commit.
ATTEMPTS_MAX = 3
# What we cannot write is tried again for as long as it takes.
JOURNAL_RETRY_S = 2.0
# Loading more than this takes longer than the control socket should be silent.
_INLINE_BYTES_MAX = 256 * 1024
# A look is over long before, unless it finds work: that takes longer with what there is to do, and
# may have to wait until each worker has come up.
_LOOK_WITHIN_S = 30.0
_WORK_WITHIN_S = 300.0
_WORK_BYTES_PER_S = 50_000
_WORK_CHANGES_PER_S = 200
# Behind a change of this size what lives now is told to the collector as lasting.
_FREEZE_CHANGES_MIN = 1000

_End = Literal["done", "refused", "later"]
"""What became of a try; "later" is to be tried again as it is."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A commit, looked at: what it changes. Nothing of it is in what runs."""

    candidate: Candidate
    whole: bool
    """Whether all files were looked at, and not only those that changed."""
    changes: tuple[Change, ...]
    moved: tuple[Entity, ...]
    warnings: tuple[Diagnostic, ...]
    outside: dict[str, Signature | None]
    """The files outside of the repository that were read, and what they looked like before."""


class Reconciler:
    """Owns the catalog and the decision what to do next."""

    def __init__(
        self,
        source: Source,
        store: Store,
        runner: Runner,
        outcomes: Outcomes,
        machine: Machine = NOTHING_HERE,
    ) -> None:
        self._source = source
        self._store = store
        self._runner = runner
        self.outcomes = outcomes
        self.head: Head | None = None
        self.problem: str | None = None
        self._told = False
        self.given_up: str | None = None
        self.looked = asyncio.Event()
        self.after_applied: Callable[[Plan], None] = lambda _: None
        self.after_look: Callable[[], None] = lambda: None
        self.after_failure: Callable[[], None] = lambda: None
        self.plan_warnings: Callable[[tuple[Change, ...]], list[Diagnostic]] = lambda _: []
        self.live: Callable[[tuple[Change, ...]], Live] = lambda _: NOTHING_KNOWN
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._machine = machine
        self._seen: str | None = None
        self._attempts = 0
        self._retry_at = 0.0
        self._marked: str | None = None
        self._external = ExternalFiles(self._opened)
        self._probe = Probe(source.probe)
        self._renewing = False

    def external_directories(self) -> set[Path]:
        """Where files lie that entities name and that are not in the repository."""
        return self._external.directories()

    def not_taken_over(self) -> list[str]:
        """The files outside of the repository that have another content than is served."""
        return sorted(self._external.differing)

    def ordered(self) -> list[Entity]:
        """The accepted certificates that come from an ACME server."""
        state = self._store.running.state
        return [state[key] for key in sorted(state.related(ORDERED))]

    def claims(self, hostname: str) -> bool:
        """Whether an accepted frontend answers for a hostname."""
        return claims(self._store.running.state, hostname)

    def wake(self) -> None:
        """Something may have moved: look now."""
        self._wake.set()

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
                await self._probe_repository()
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
                self._rebuild(error)
            except Exception as error:  # noqa: BLE001  # one bad look must not end the daemon
                self._give_up_internally(error)
            if not waiting:
                self.looked.set()
            try:
                self.after_look()
            except Exception as error:  # noqa: BLE001  # what follows a look must not end looking
                self._hold_internally("looking around the repository", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _probe_repository(self) -> None:
        """Nothing touches a repository that hangs. Raises `StalledError`."""
        try:
            await self._probe.wait()
        except StalledError as error:
            self._source.stalled = str(error)
            raise
        self._source.stalled = None

    def _hold(self, problem: str, *, told: bool = False) -> None:
        """`told`: somebody else has it in the log."""
        if problem != self.problem:
            self.problem, self._told = problem, told
            if not told:
                log.warning("holding the running state", reason=problem)
            self.notify()

    async def _look(self) -> None:
        self._store.look()
        head = self._source.head()
        self.head = head
        if head.commit != self._seen:
            self._seen, self.given_up, self._attempts, self._retry_at = head.commit, None, 0, 0.0
            self._external.want({})
        running = self._store.running
        if await self._renew(head):
            return
        if head.commit == running.commit and running.tree is not None:
            if not self._external.differing:
                self._settled()
            return
        if head.commit == self.given_up and self._external.wanted_has_come():
            self.given_up, self._attempts = None, 0
        if head.commit == self.given_up or asyncio.get_running_loop().time() < self._retry_at:
            return
        if head.tree == running.tree:
            self._follow(head, None, time.monotonic())
            self._settled()
            return
        if await self._reconcile(head) == "refused" and running.commit is None:
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

    async def _renew(self, head: Head) -> bool:
        """Take over files outside of the repository, for the commit that runs.

        Also while a newer commit is refused: an old certificate must not expire because of that.
        Tells whether this look is over.
        """
        running = self._store.running
        if self._external.look(self._outside_files()):
            self._renewing, self._attempts = True, 0
        if not self._renewing or running.commit is None or running.tree is None:
            return False
        if asyncio.get_running_loop().time() < self._retry_at:
            return False
        self._renewing = False
        try:
            self._renewing = await self._renew_files(Head(running.commit, running.tree)) == "later"
        except RepositoryError:
            self._renewing = True
            raise
        # What was taken over differs no more, which status shall not have to wait for.
        self._renewing |= self._external.look(self._outside_files())
        if head.commit == running.commit:
            return True
        # Its refusal is no longer what was said last, and a file may have come that it names.
        self.given_up, self._attempts = None, 0
        return False

    async def _renew_files(self, running: Head) -> _End:
        touched = self._external.differing
        log.info("files outside have changed", files=",".join(sorted(touched)))
        end = await self._reconcile(running, touched)
        apart = named_together(self._store.running.state, touched)
        if end != "refused" or len(apart) < 2:
            return end
        # One broken certificate must not keep the others from being renewed.
        ends = {some: await self._reconcile(running, some) for some in apart}
        if "later" in ends.values():
            return "later"
        refused = [some for some in apart if ends[some] == "refused"]
        if refused and ends[apart[-1]] != "refused":
            # What is wrong is what shall be said last.
            await self._reconcile(running, frozenset().union(*refused))
        return "done"

    def _rebuild(self, damage: DamagedError) -> None:
        """Write the state database anew, if the commit that runs still gives what runs."""
        self._hold(str(damage))
        running = self._store.running
        try:
            if running.tree is None:
                return
            changed = self._source.changed(None, running.tree)
            read = partial(self._read_file, changed, {})
            candidate = stage(MemoryView(), changed.files, read, machine=self._machine)
            found = [entity for entity in candidate.desired.values() if entity is not None]
            if not candidate.ok or State(found).digest != running.state.digest:
                log.warning("the commit that runs does not give the state that was damaged")
                return
            aside = self._store.rebuild(found, candidate.files)
        except (RepositoryError, OSError) as error:
            log.warning("the state database cannot be written anew", reason=error)
            return
        log.warning("the state database is written anew from the commit that runs", kept=aside)
        self.wake()

    def _settled(self) -> None:
        if self.problem is not None:
            if not self._told:
                log.info("following again", ref=self._source.shown_ref)
            self.problem = None
            self.notify()
        self.outcomes.resolved()
        commit = self._store.running.commit
        if commit is not None and self._marked != commit:
            self._mark_applied(commit)

    # One commit.

    async def _reconcile(self, head: Head, touched: frozenset[str] = frozenset()) -> _End:
        """`touched` are files outside of the repository with another content than runs."""
        began = time.monotonic()
        running = self._store.running
        changed = self._source.changed(running.tree, head.tree)
        changed = replace(changed, others=changed.others | touched)
        self.problem = None
        heard_again_within(_WORK_WITHIN_S + changed.size / _WORK_BYTES_PER_S)
        staged = await self._stage(changed)
        errors = [found for found in staged.candidate.diagnostics if found.severity == "error"]
        if errors:
            self._external.want(staged.outside)
            self._refuse(head, lambda: self.outcomes.invalid(head, began, errors))
            return "refused"
        if not staged.changes:
            if head.commit != running.commit or running.tree is None:
                self._follow(head, staged, began)
            self._settled()
            return "done"
        plan = make_plan(staged.changes, head.commit, staged.warnings)
        blocked = self._blocked(plan, head.commit)
        if blocked is not None:
            self._refuse(head, lambda: self.outcomes.blocked(head, began, blocked))
            return "refused"
        base = running.commit
        order = self._order(head, plan, staged)
        try:
            self._store.materials.keep(order.begun.puts, dict(staged.candidate.contents))
        except OSError as error:
            self._retry_at = asyncio.get_running_loop().time() + JOURNAL_RETRY_S
            raise RepositoryError(f"cannot keep certificates: {error.strerror or error}") from None
        heard_again_within(_WORK_WITHIN_S + len(plan.changes) / _WORK_CHANGES_PER_S)
        failure = await self._runner.run(order)
        if failure is not None:
            self._external.want(staged.outside)
            if failure.stage != "journal":
                # Of a failed write nobody knows yet what it will say after a restart.
                self._store.materials.dropped(order.begun.puts)
            return self._failed(head, began, order.begun, failure)
        # Behind the commit point nothing is undone: one step that fails must not skip the others.
        for doing, step in (
            ("forgetting files", partial(self._store.materials.applied, plan.changes)),
            ("marking the commit", partial(self._mark_applied, head.commit)),
            ("recording", partial(self.outcomes.applied, head, began, plan, base)),
            ("telling the other parts", partial(self.after_applied, plan)),
        ):
            try:
                step()
            except Exception as error:  # noqa: BLE001  # whatever it is, the commit is applied
                log.internal_error(f"{doing} behind a commit", error)
        if len(plan.changes) >= _FREEZE_CHANGES_MIN:
            gc.collect()
            gc.freeze()
        self.notify()
        return "done"

    def _outside_files(self) -> dict[str, frozenset[str]]:
        return outside_files(self._store.running.state)

    async def _stage(self, changed: Changed) -> Staged:
        """Look at what changed, on a snapshot of what runs: nothing is written, whoever stages."""
        if changed.size > _INLINE_BYTES_MAX:
            return await asyncio.to_thread(self._stage_now, changed)
        return self._stage_now(changed)

    def _stage_now(self, changed: Changed) -> Staged:
        with self._store.snapshot() as state:
            base: View = MemoryView() if changed.full else state
            changed = self._source.with_naming(changed, files_naming(base, changed.others))
            outside: dict[str, Signature | None] = {}
            read = partial(self._read_file, changed, outside)
            candidate = stage(base, changed.files, read, changed.others, self._machine)
            if not candidate.ok:
                return Staged(candidate, changed.full, (), (), (), outside)
            desired: dict[EntityKey, Entity | None] = dict(candidate.desired)
            if changed.full:
                desired.update((key, None) for key in state if key not in desired)
            changes = diff_entities(desired, state)
            touched = {change.key for change in changes}
            moved = tuple(
                entity
                for entity in (*candidate.moved.values(), *desired.values())
                if entity is not None and entity.key not in touched and _has_moved(state, entity)
            )
        warnings = (*changed.warnings, *candidate.warnings, *self.plan_warnings(changes))
        return Staged(candidate, changed.full, changes, moved, warnings, outside)

    def _read_file(
        self, changed: Changed, outside: dict[str, Signature | None], path: str
    ) -> bytes:
        if path.startswith("/"):
            outside[path] = signature_of(path)
        return self._source.read_file(changed, path)

    def _opened(self, content: bytes) -> bytes:
        keyring = self._machine.keyring
        return keyring.opened(content) if keyring else content

    def mend_materials(self) -> bool:
        """Restore what was altered in the state directory; tell whether anything was."""
        running = self._store.running
        changed = Changed({}, (), full=False, tree=running.tree)

        def read(path: str) -> bytes:
            try:
                return self._opened(self._source.read_file(changed, path))
            except SealedError as error:
                raise UnreadableError(str(error)) from None

        try:
            mended = self._store.materials.mend(running.state.with_files(), read)
        except OSError as error:
            log.warning("the state directory cannot be mended", reason=error)
            return False
        if mended:
            log.warning("files that were altered in the state directory are back", files=mended)
        return bool(mended)

    async def plan(self, changed: Changed, commit: str | None) -> tuple[Plan | None, Candidate]:
        """What files would change, without any effect; None when they are invalid."""
        staged = await self._stage(changed)
        if not staged.candidate.ok:
            return None, staged.candidate
        live = self.live(staged.changes)
        return make_plan(staged.changes, commit, staged.warnings, live), staged.candidate

    def _order(self, head: Head, plan: Plan, staged: Staged) -> Order:
        running = self._store.running
        puts = tuple(change.after for change in plan.changes if change.after is not None)
        removes = tuple(change.key for change in plan.changes if change.after is None)
        begun = Begun(
            generation=running.generation + 1,
            base_generation=running.generation,
            base_digest=running.state.digest,
            digest=digest_after(running.state.digest, plan.changes),
            commit=head.commit,
            tree=head.tree,
            at=_now(),
            puts=puts,
            removes=removes,
            moved=staged.moved,
            files=staged.candidate.files,
            whole=staged.whole,
        )
        return Order(begun)

    def _blocked(self, plan: Plan, commit: str) -> str | None:
        # Only a plan that removes frontends can be what the guards look for.
        if all(change.key.kind != "frontend" or change.after for change in plan.changes):
            return None
        message = self._source.message(commit)
        return guards.refusal(plan, self._store.running.state, message)

    # What became of it.

    def _follow(self, head: Head, staged: Staged | None, began: float) -> None:
        base = self._store.running.commit
        moved = staged.moved if staged else ()
        files = staged.candidate.files if staged else {}
        whole = staged is not None and staged.whole
        try:
            self._store.follow(head.commit, head.tree, moved, _now(), files, whole=whole)
        except OSError as error:
            self._retry_at = asyncio.get_running_loop().time() + JOURNAL_RETRY_S
            raise RepositoryError(f"cannot write the state: {error.strerror or error}") from None
        self._mark_applied(head.commit)
        self.outcomes.unchanged(head, began, base)
        self.notify()

    def _mark_applied(self, commit: str) -> None:
        try:
            self._source.repository.mark_applied(commit)
            self._marked = commit
            self.outcomes.repository_warning = None
        except RepositoryError as error:
            if self.outcomes.repository_warning != str(error):
                log.warning("the applied commit is not protected from gc", reason=error)
            self.outcomes.repository_warning = str(error)

    def _failed(self, head: Head, began: float, begun: Begun, failure: Failure) -> _End:
        loop = asyncio.get_running_loop()
        if failure.transient and failure.stage == "journal":
            self._retry_at = loop.time() + JOURNAL_RETRY_S
            self.outcomes.failed(head, began, begun, failure)
            self.notify()
            return "later"
        self._attempts += failure.transient
        if failure.transient and self._attempts < ATTEMPTS_MAX:
            log.warning("trying again", commit=head.commit, reason=failure.reason)
            self.wake()
            return "later"
        self._refuse(head, lambda: self.outcomes.failed(head, began, begun, failure))
        return "refused"

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
        self.after_failure()
        self.notify()


def digest_after(digest: str, changes: tuple[Change, ...]) -> str:
    """The digest that a state will have; the workers must compute the same."""
    total = int(digest, 16)
    for change in changes:
        if change.before is not None:
            total -= entity_hash(change.key, change.before.value)
        if change.after is not None:
            total += entity_hash(change.key, change.after.value)
    return f"{total % (1 << 128):032x}"


def _has_moved(state: View, entity: Entity) -> bool:
    before = state.get(entity.key)
    return before is not None and before.provenance != entity.provenance


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
