"""What workers serve becomes the state, where the files had lost it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.catalog.relations import HOST, relations_of
from reconciler.storage.reading.header import Recovered
from reconciler.storage.store import Store
from schemas.changes.state import EMPTY_DIGEST, State
from schemas.entities.entity import EntityKey, Mark
from tests.reconciler.building import entity, frontend
from tests.reconciler.entities import run as apply

HELD = [
    entity("settings", "settings"),
    entity("listener", "public", address="127.0.0.1:8080"),
    entity("cluster", "shop"),
    frontend("web", hostname="a.test"),
]
FILES = {"a.yaml": {HELD[3].key: Mark(b"1" * 16, 4, 3)}}
DIGEST = State(HELD).digest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state", relations_of)
    yield made
    made.close()


def held(generation: int = 40) -> Recovered:
    return Recovered(generation, DIGEST, "c" * 40, "d" * 40)


def check(store: Store) -> None:
    running = store.running
    assert (running.generation, running.commit, running.tree) == (40, "c" * 40, "d" * 40)
    assert running.state.digest == DIGEST
    found = {each.key: each for each in running.state.values()}
    assert found == {each.key: each for each in HELD}
    assert running.state.related(HOST, "a.test") == {HELD[3].key: ""}
    assert running.state.marks("a.yaml") == FILES["a.yaml"]
    assert running.state.count("frontend") == 1


@pytest.mark.parametrize("before", ["nothing", "an older state"])
def test_it_takes_the_place_of_what_was_stored_and_lasts(
    store: Store, tmp_path: Path, before: str
) -> None:
    if before == "an older state":
        apply(store, [entity("cluster", "old"), frontend("gone", hostname="b.test")])
    store.recover(held(), HELD, FILES)
    check(store)
    assert store.running.state.related(HOST, "b.test") == {}
    store.close()
    again = Store(tmp_path / "state", relations_of)
    check(again)
    assert again.unfinished is None
    # The next transaction goes on from it.
    apply(again, [entity("cluster", "more")])
    assert again.running.generation == 41
    again.close()


def test_where_nothing_can_be_written_it_is_the_state_all_the_same(
    store: Store, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "state")
    store.recover(held(), HELD, FILES)
    check(store)


def test_a_state_without_a_commit(store: Store) -> None:
    store.recover(Recovered(40, DIGEST), HELD, {})
    assert (store.running.commit, store.running.tree) == (None, None)
    assert store.running.state[EntityKey("cluster", "shop")] == HELD[2]


def test_a_daemon_comes_after_the_one_that_workers_know(store: Store, tmp_path: Path) -> None:
    assert store.epoch == 1
    store.outrank(7)
    assert store.epoch == 8
    store.outrank(3)
    assert store.epoch == 8, "it is never less"
    assert (store.running.generation, store.running.state.digest) == (0, EMPTY_DIGEST)
    store.close()
    again = Store(tmp_path / "state", relations_of)
    assert again.epoch == 9, "it was written down"
    again.close()


def test_outranking_needs_no_disk(store: Store, tmp_path: Path) -> None:
    apply(store, HELD[:2])
    shutil.rmtree(tmp_path / "state")
    store.outrank(20)
    assert store.epoch == 21
