"""Looks at what changed, on a snapshot of what runs: what a commit or a plan would do.

Nothing is written, whoever stages and however many do at once. Called by
`reconciler.loop.reconcile`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from pathlib import Path

from reconciler.catalog.catalog import Candidate, files_naming, renew, stage
from reconciler.catalog.relations import FILE, View
from reconciler.catalog.views import MemoryView, StagedView
from reconciler.errors import UnreadableError
from reconciler.materials.completing import Machine, Served, always
from reconciler.materials.external import Signature, signature_of
from reconciler.planning.differ import diff_entities
from reconciler.planning.planner import in_order
from reconciler.planning.renaming import renames
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Changed, Head, Source
from reconciler.stalling import HurriedError, hurried, spend_all, spending
from reconciler.storage.kept.history import now
from reconciler.storage.reading.running import Running
from reconciler.storage.reading.state import StoredState
from reconciler.storage.writing.begun import Begun, Puts
from reconciler.storage.writing.bulk import Bulk
from schemas.changes.change import Change
from schemas.changes.plan import Consequence, Plan
from schemas.changes.state import EMPTY_DIGEST
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey, entity_hash
from schemas.messages.files import read_regular
from schemas.record import record

# Loading more than this takes longer than the loop should be silent. It costs 2 ms for each KiB.
_INLINE_BYTES_MAX = 16 * 1024
# Of each file that differs it is asked who names it.
_INLINE_OTHERS_MAX = 500


@record
class StagedCommit:
    """A commit, looked at: what it changes. Nothing of it is in what runs."""

    candidate: Candidate
    whole: bool
    """Whether all files were looked at, and not only those that changed."""
    changes: Sequence[Change]
    moved: tuple[Entity, ...]
    warnings: tuple[Diagnostic, ...]
    outside: dict[str, Signature | None]
    """The files outside of the repository that were read, and what they looked like before."""
    bulk: Bulk | None = None
    """Where the changes lie of which there are very many."""
    renamed: Mapping[EntityKey, EntityKey] = field(default_factory=dict)
    """What is removed and added with the same value, by either key."""


class Stager:
    """Stages changed files."""

    def __init__(self, source: Source, machine: Machine, materials: Callable[[], Path]) -> None:
        """`materials` tells where the contents lie that are served, by hash."""
        self._source = source
        self._machine = machine
        self._materials = materials

    async def stage(self, state: StoredState, changed: Changed) -> StagedCommit:
        """Look at what changed, on a snapshot of what runs: nothing is written, whoever stages."""
        is_little = len(changed.others) <= _INLINE_OTHERS_MAX
        if is_little and changed.size <= _INLINE_BYTES_MAX:
            # A file outside that does not answer at once is waited for in a thread.
            with contextlib.suppress(HurriedError), hurried():
                return self._stage_now(state, changed)
        return await asyncio.to_thread(self._stage_now, state, changed)

    def _stage_now(self, state: StoredState, changed: Changed) -> StagedCommit:
        base: View = MemoryView() if changed.full else state
        machine = replace(self._machine, served=served_before(state, self._source))
        outside: dict[str, Signature | None] = {}
        read = partial(self.read_file, changed, outside)
        try:
            changed = self._source.with_naming(changed, files_naming(base, changed.others))
        except RepositoryError:
            if changed.files or changed.full:
                raise
            # The files that name them are out of reach; what they say is in what runs.
            read = partial(self._read_kept, state, outside)
            candidate = renew(state, changed.others, read, machine)
        else:
            if changed.size > _INLINE_BYTES_MAX:
                spend_all()
            candidate = stage(base, changed.files, read, changed.others, machine)
        if not candidate.ok:
            return StagedCommit(candidate, changed.full, (), (), (), outside)
        desired: dict[EntityKey, Entity | None] = dict(candidate.desired)
        if changed.full:
            desired.update((key, None) for key in state if key not in desired)
        changes = diff_entities(desired, state)
        touched = {change.key for change in changes}
        moved = tuple(
            entity
            for entity in (*candidate.moved.values(), *desired.values())
            if entity is not None and entity.key not in touched and has_moved(state, entity)
        )
        warnings = (*changed.warnings, *candidate.warnings)
        renamed = renamed_by(changes, state)
        return StagedCommit(
            candidate, changed.full, changes, moved, warnings, outside, renamed=renamed
        )

    def rehearse(self, seen: Running) -> None:
        """Look at a file that runs as if it were new, and once more as it is.

        So the first change finds at hand what all of them need. Raises `RepositoryError`.
        """
        for path, _, _ in seen.state.files_after("", 1) if seen.tree else ():
            content = self._source.repository.objects.rehearsed(
                seen.tree or "", path, _INLINE_BYTES_MAX
            )
            if content is not None and len(content) <= _INLINE_BYTES_MAX:
                fresh = stage(MemoryView(), {path: content}, machine=self._machine)
                stage(seen.state, {path: content}, machine=self._machine)
                diff_entities(fresh.desired, seen.state)

    def whole(self, tree: str) -> Candidate:
        """All files of a tree that was served, for whoever has time. Raises `RepositoryError`."""
        changed = self._source.changed(None, tree)
        read = partial(self.read_file, changed, {})
        machine = replace(self._machine, served=always)
        return stage(MemoryView(), changed.files, read, machine=machine)

    def read_file(self, changed: Changed, outside: dict[str, Signature | None], path: str) -> bytes:
        """What an entity means by a path; notes what files outside looked like before."""
        with spending():
            if path.startswith("/"):
                outside[path] = signature_of(path)
            return self._source.read_file(changed, path)

    def _read_kept(
        self, state: StoredState, outside: dict[str, Signature | None], path: str
    ) -> bytes:
        """Without the repository: what is served of a file that lies in it."""
        if path.startswith("/"):
            return self.read_file(Changed({}, (), full=False), outside, path)
        for digest in state.related(FILE, path).values():
            with contextlib.suppress(OSError):
                return read_regular(self._materials() / digest)
        raise UnreadableError("the repository cannot be read")

    def opened(self, content: bytes) -> bytes:
        """What counts of a file's content. Raises `SealedError`."""
        keyring = self._machine.keyring
        return keyring.opened(content) if keyring else content


def served_before(state: StoredState, source: Source) -> Served:
    """Tell of files whether they were served with a content, by what runs.

    Where nothing runs, and the repository knows of a commit that did, what did is lost: then all of
    them may have been.
    """

    def served(path: str, digest: str) -> bool:
        if state.digest == EMPTY_DIGEST:
            return source.was_applied
        return digest in state.related(FILE, path).values()

    return served


def has_moved(state: View, entity: Entity) -> bool:
    """Tell whether an entity is written at another place than it was."""
    before = state.get(entity.key)
    return before is not None and before.provenance != entity.provenance


def digest_after(digest: str, changes: Sequence[Change]) -> str:
    """The digest that a state will have; the workers must compute the same."""
    total = int(digest, 16)
    for change in changes:
        if change.before is not None:
            total -= entity_hash(change.key, change.before.value)
        if change.after is not None:
            total += entity_hash(change.key, change.after.value)
    return f"{total % (1 << 128):032x}"


def renamed_by(changes: Sequence[Change], state: View) -> Mapping[EntityKey, EntityKey]:
    """Return what changes of a state rename, as `plan` tells it."""
    after = StagedView(state, {each.key: each.after for each in changes}, {})
    return renames(changes, state, after)


def leaves_nothing(base: Running, changed: Changed) -> bool:
    """Whether no configuration file would be left."""
    if any(content is not None for content in changed.files.values()):
        return False
    return changed.full or base.state.paths() <= changed.files.keys()


def planned(head: Head, staged: StagedCommit) -> Plan:
    """What the commit changes, in order; nobody reads what each change does to others."""
    # Very many were put in order where they were staged.
    changes = staged.changes if staged.bulk is not None else in_order(staged.changes)
    meant = {key: Consequence(renamed=other) for key, other in staged.renamed.items()}
    return Plan(head.commit, changes, staged.warnings, consequences=meant)


def begun_by(running: Running, head: Head, plan: Plan, staged: StagedCommit) -> Begun:
    """The transaction that carries a plan out, on what runs."""
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
        at=now(),
        puts=puts,
        removes=removes,
        moved=staged.moved,
        files=staged.candidate.files,
        whole=staged.whole,
        bulk=bulk,
    )
