"""Commits and plans, staged at once in any order: none sees or leaves anything of another.

Files are staged on snapshots of a real state database, and committed or dropped later, while others
stage and commit. The oracle knows files only: what a staged change does is the difference between
everything loaded before and everything loaded after, whatever happened in between.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from reconciler.catalog.catalog import Candidate, load_directory, stage
from reconciler.catalog.relations import relations_of
from reconciler.loop.stager import digest_after
from reconciler.planning.differ import diff_entities
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun
from schemas.changes.change import Change
from schemas.changes.state import State
from schemas.entities.entity import Entity, EntityKey
from tests.reconciler.entities import at_once

LONG = bool(os.environ.get("KAKEHI_TEST_LONG"))
EXAMPLES, STEPS = (200, 50) if LONG else (12, 25)

Files = dict[str, bytes]

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.sampled_from(["one.yaml", "two.yaml", "three.yaml"])


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """One file: clusters and frontends, whose names may be in another file or in none."""
    clusters = {
        name: {"backends": {"x": {"address": f"127.0.0.1:{draw(st.integers(1, 3))}"}}}
        for name in draw(st.sets(NAMES, max_size=2))
    }
    frontends = {
        name: {"listeners": ["main"], "hostname": f"{name}.test", "cluster": draw(NAMES)}
        for name in draw(st.sets(NAMES, max_size=1))
    }
    return json.dumps({"clusters": clusters, "frontends": frontends}).encode()


CHANGES = st.dictionaries(PATHS, st.none() | contents(), min_size=1, max_size=2)


@dataclass(frozen=True)
class Pending:
    """A change that was staged, and the files as they were at that moment."""

    base: Files
    changed: dict[str, bytes | None]
    candidate: Candidate
    changes: tuple[Change, ...]

    @property
    def wanted(self) -> Files:
        return laid(self.base, self.changed)


def laid(base: Mapping[str, bytes], changed: Mapping[str, bytes | None]) -> Files:
    return {path: text for path, text in {**base, **changed}.items() if text is not None}


def state_of(files: Files) -> State | None:
    return load_directory(files.items())[0]


class Interleavings(RuleBasedStateMachine):
    """One store; one commit and many plans under way."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kk-"))
        self.store = Store(self.directory, relations_of)
        self.accepted: Files = {}
        self.commit: Pending | None = None
        self.plans: list[Pending] = []
        base = b'{"listeners": {"main": {"address": "127.0.0.1:9"}}}'
        self._enter(self._staged({"base.yaml": base}))

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    @rule(changed=CHANGES)
    def stage_plan(self, changed: dict[str, bytes | None]) -> None:
        self.plans.append(self._staged(changed))

    @precondition(lambda self: self.commit is None)
    @rule(changed=CHANGES)
    def stage_commit(self, changed: dict[str, bytes | None]) -> None:
        self.commit = self._staged(changed)

    @precondition(lambda self: self.commit is not None)
    @rule(fails=st.booleans())
    def end_commit(self, fails: bool) -> None:
        pending, self.commit = self.commit, None
        assert pending is not None
        self._check(pending)
        if pending.candidate.ok and not fails:
            self._enter(pending)
        self._check_accepted()

    @precondition(lambda self: self.plans)
    @rule(which=st.integers(0, 99))
    def end_plan(self, which: int) -> None:
        self._check(self.plans.pop(which % len(self.plans)))
        self._check_accepted()

    @precondition(lambda self: self.commit is not None)
    @rule(changed=CHANGES)
    def commit_beside_an_open_plan(self, changed: dict[str, bytes | None]) -> None:
        """A commit goes through between the moment that a plan looks at, and its looking."""
        with self.store.snapshot() as base:
            accepted = dict(self.accepted)
            self.end_commit(fails=False)
            candidate = stage(base.state, changed)
            desired = candidate.desired if candidate.ok else {}
            changes = diff_entities(desired, base.state)
        self._check(Pending(accepted, changed, candidate, changes))

    def _staged(self, changed: dict[str, bytes | None]) -> Pending:
        with self.store.snapshot() as base:
            candidate = stage(base.state, changed)
            desired = candidate.desired if candidate.ok else {}
            changes = diff_entities(desired, base.state)
        return Pending(dict(self.accepted), changed, candidate, changes)

    def _enter(self, pending: Pending) -> None:
        running = self.store.running
        generation = running.generation + 1
        moved: tuple[Entity, ...] = tuple(pending.candidate.moved.values())
        at_once(
            self.store.commit(
                Begun(
                    generation=generation,
                    base_generation=running.generation,
                    base_digest=running.state.digest,
                    digest=digest_after(running.state.digest, pending.changes),
                    commit=f"{generation:040x}",
                    tree=f"{generation:040x}",
                    at="2026-01-01T00:00:00.000+00:00",
                    puts=tuple(each.after for each in pending.changes if each.after is not None),
                    removes=tuple(each.key for each in pending.changes if each.after is None),
                    moved=moved,
                    files=pending.candidate.files,
                )
            )
        )
        at_once(self.store.done())
        self.accepted = pending.wanted

    def _check(self, pending: Pending) -> None:
        before, after = state_of(pending.base), state_of(pending.wanted)
        assert before is not None
        assert pending.candidate.ok == (after is not None), pending.candidate.diagnostics
        if after is not None:
            desired: dict[EntityKey, Entity | None] = dict(after.entities)
            desired |= {key: None for key in before.entities if key not in desired}
            assert pending.changes == diff_entities(desired, before)

    def _check_accepted(self) -> None:
        expected = state_of(self.accepted)
        assert expected is not None
        found = {entity.key: entity for entity in self.store.running.state.values()}
        assert found == expected.entities
        assert self.store.running.state.digest == expected.digest


def test_commits_and_plans_in_any_order() -> None:
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not LONG,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
