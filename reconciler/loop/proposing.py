"""What a commit changes, and whether it may: staged and judged on what runs, without any effect.

For the commit that is to be carried out as for files that nobody has committed, so that a plan and
the daemon are of one mind. Called by `reconciler.loop.reconcile`, and through a Protocol by
`reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from reconciler.catalog.views import StagedView
from reconciler.loop.large.loading import BYTES_MAX, FILES_MAX, Loading
from reconciler.loop.observer import Observer
from reconciler.loop.stager import StagedCommit, Stager, leaves_nothing, renamed_by
from reconciler.materials.external import ExternalFiles
from reconciler.parts import heard_again_within
from reconciler.planning import guards
from reconciler.planning.consequences import Meaning
from reconciler.planning.planner import make_plan
from reconciler.source.source import Changed, Head, Source
from reconciler.source.tree_diff import ManyFilesError
from reconciler.stalling import HurriedError, hurried
from reconciler.storage.kept.history import CHANGES_MAX, now
from reconciler.storage.reading.running import Running
from reconciler.storage.store import Store
from reconciler.transaction.runner import Runner
from schemas.changes.plan import Plan, Verdict
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import EntityKey
from schemas.messages.status import LoadingStatus

Result = TypeVar("Result")

WORK_WITHIN_S = 300.0
"""What a look finds to do takes longer with what there is, and may wait for workers to come up."""

_WORK_BYTES_PER_S = 50_000
# Each may lie in a directory of its own, with three objects to read; what was read of more is read
# again in the thread.
_INLINE_FILES_MAX = 8


async def _in_a_moment(look: Callable[[], Result]) -> Result:
    """What a look returns; a thread has it where that takes longer than the loop may be silent."""
    with contextlib.suppress(HurriedError), hurried():
        return look()
    return await asyncio.to_thread(look)


class Proposing:
    """Looks at commits and at plans."""

    def __init__(
        self,
        source: Source,
        store: Store,
        stager: Stager,
        loading: Loading,
        external: ExternalFiles,
        runner: Runner,
        observer: Observer,
    ) -> None:
        self._source = source
        self._store = store
        self._stager = stager
        self._loading = loading
        self._external = external
        self._runner = runner
        self._observer = observer
        self.progress: LoadingStatus | None = None
        """What is looked at by `look_at`, while it is."""

    async def look_at(self, head: Head, touched: frozenset[str]) -> StagedCommit:
        """What the commit changes, and files outside with it. Raises `LoadError`."""
        heard_again_within(WORK_WITHIN_S)
        self.progress = LoadingStatus(
            commit=head.commit, phase="comparing", files=0, read=0, parsed=0, idle_s=0, since=now()
        )
        try:
            return self._with_plan_warnings(await self._looked_at(head, touched, self.progress))
        finally:
            self.progress = None

    async def _looked_at(
        self, head: Head, touched: frozenset[str], progress: LoadingStatus
    ) -> StagedCommit:
        try:
            with self._store.snapshot() as seen:
                changed = await self._changed_files(seen.tree, head.tree)
                if changed.size > BYTES_MAX:
                    raise ManyFilesError
                changed = replace(changed, others=changed.others | touched)
                heard_again_within(WORK_WITHIN_S + changed.size / _WORK_BYTES_PER_S)
                progress["phase"], progress["files"] = "checking", len(changed.files)
                return await self._stager.stage(seen.state, changed)
        except ManyFilesError:
            running = self._store.running
            staged = await self._loading.stage(running, head.commit, head.tree, touched)
            return await asyncio.to_thread(self._with_renames, staged)

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
            changed = await _in_a_moment(partial(wanted, base))
            # What the machine's own files have by now is looked at as a commit would look at it.
            changed = replace(changed, others=changed.others | self._external.differing)
            staged = self._with_plan_warnings(await self._stager.stage(base.state, changed))
            is_empty = staged.candidate.ok and leaves_nothing(base, changed)
            desired = {each.key: each.after for each in staged.changes}
            after = StagedView(base.state, desired, {})
            meant = await asyncio.to_thread(meaning, staged.changes, base.state, after)
        found = [*changed.warnings, *staged.candidate.diagnostics]
        if is_empty:
            message = "there is no configuration: no *.yaml file is left"
            hint = "keep one, if only with settings: a commit without any is refused"
            found.append(Diagnostic("error", "", 0, 0, message, hint))
        if not staged.candidate.ok or is_empty:
            return None, found, base
        live = self._observer.live(staged.changes)
        plan = make_plan(staged.changes, commit, staged.warnings, live, meant)
        return replace(plan, verdict=await self._verdict(plan)), found, base

    def blocked(self, plan: Plan, commit: str | None) -> str | None:
        """Why the guards refuse a plan, by what its commit says; None when they do not."""
        # Only a plan that removes frontends can be what the guards look for.
        if not plan.counts("frontend")["remove"]:
            return None
        message = self._source.message(commit) if commit else ""
        return guards.refusal(plan, self._store.running.state, message)

    async def _verdict(self, plan: Plan) -> Verdict | None:
        """Why the commit of a valid plan would be refused now, as far as that can be known."""
        blocked = self.blocked(plan, plan.commit)
        if blocked is not None:
            return Verdict("guard", blocked)
        obstacle = self._runner.obstacle(plan.changes)
        if obstacle is not None:
            key = EntityKey(obstacle.kind, obstacle.name)
            return Verdict("prepare", f"{key}: {obstacle.told}")
        unwritable = await self._store.obstacle() if plan.changes else None
        return Verdict("journal", unwritable) if unwritable is not None else None

    async def _changed_files(self, base: str | None, tree: str) -> Changed:
        """Raises `ManyFilesError`. Very few are read at once, more in a thread."""
        with contextlib.suppress(ManyFilesError, HurriedError), hurried():
            return self._source.changed(base, tree, _INLINE_FILES_MAX)
        return await asyncio.to_thread(self._source.changed, base, tree, FILES_MAX)

    def _with_renames(self, staged: StagedCommit) -> StagedCommit:
        """Many files may change little. Of more changes than are told nobody reads the names."""
        if len(staged.changes) > CHANGES_MAX:
            return staged
        with self._store.snapshot() as seen:
            return replace(staged, renamed=renamed_by(tuple(staged.changes), seen.state))

    def _with_plan_warnings(self, staged: StagedCommit) -> StagedCommit:
        # What else there is to warn of lives in other parts, on the loop.
        warnings = (*staged.warnings, *self._observer.plan_warnings(staged.changes))
        return replace(staged, warnings=warnings)
