"""A large change as rows comes to the same as one in memory: in database, plan and wire."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.catalog.relations import relations_of
from reconciler.catalog.views import MemoryView
from reconciler.loop.large.loading import compare
from reconciler.planning.differ import diff_entities
from reconciler.planning.planner import make_plan, position
from reconciler.storage.file.database import FILE_NAME
from reconciler.storage.store import Store
from reconciler.storage.writing import bulk
from reconciler.storage.writing.bulk import Bulk, BulkWriter
from schemas.changes.change import Change, FieldChange, of_kinds, with_files
from schemas.changes.ops import chunks
from schemas.changes.plan import Plan
from schemas.changes.state import State
from schemas.entities.entity import KINDS, Entity, EntityKey, Mark, Provenance
from tests.reconciler.building import frontend
from tests.reconciler.entities import at_once, backend, begun, run
from tests.schemas.strategies import ENTITY_MAPS

Map = dict[EntityKey, Entity]
_TABLES = ("entities", "relations", "counts", "files", "unfinished")


def written(directory: Path, before: Map, after: Map) -> Bulk:
    """What a loader leaves that leads from one state to the other."""
    writer = BulkWriter(directory / bulk.FILE_NAME, relations_of)
    changes = [
        (key, before.get(key), after.get(key))
        for key in {**before, **after}
        if key not in before or key not in after or before[key].value != after[key].value
    ]
    changes.sort(key=lambda change: position(change[0], removed=change[2] is None))
    writer.changes(changes)
    writer.relations(
        [each for _, _, each in changes if each], [each for _, each, _ in changes if each]
    )
    writer.files(files(after, before))
    writer.moved(moved(before, after))
    writer.finish()
    assert (digest(before) + writer.difference) % (1 << 128) == digest(after)
    return Bulk(directory / bulk.FILE_NAME, f"{digest(after):032x}", compare)


def digest(found: Map) -> int:
    return int(State(found.values()).digest, 16)


def in_order(changes: Iterable[Change]) -> list[Change]:
    """Fields are listed as the value is written, which is sorted in a row."""
    return [replace(each, fields=tuple(sorted(each.fields, key=_path))) for each in changes]


def _path(field: FieldChange) -> str:
    return field.path


def files(after: Map, before: Map) -> dict[str, dict[EntityKey, Mark]]:
    found: dict[str, dict[EntityKey, Mark]] = {each.provenance.file: {} for each in before.values()}
    for each in after.values():
        mark = Mark(b"\1" * 16, each.provenance.line, each.provenance.column)
        found.setdefault(each.provenance.file, {})[each.key] = mark
    return found


def moved(before: Map, after: Map) -> list[Entity]:
    return [
        each
        for key, each in after.items()
        if key in before
        and before[key].value == each.value
        and before[key].provenance != each.provenance
    ]


def contents(directory: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        return {table: sorted(connection.execute(f"SELECT * FROM {table}")) for table in _TABLES}


@contextmanager
def store_with(entities: Map) -> Iterator[tuple[Store, Path]]:
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name), relations_of)
        try:
            if entities:
                run(store, entities.values())
            yield store, Path(name)
        finally:
            store.close()


@settings(max_examples=25)
@given(ENTITY_MAPS, ENTITY_MAPS)
def test_a_commit_of_rows_leaves_the_same_database(before: Map, after: Map) -> None:
    plan = make_plan(diff_entities(dict.fromkeys(before) | after, before), None)
    puts = tuple(each.after for each in plan.changes if each.after is not None)
    removes = tuple(each.key for each in plan.changes if each.after is None)
    with store_with(before) as (plain, plain_dir), store_with(before) as (apart, apart_dir):
        ordinary = replace(
            begun(plain.running, puts, removes),
            files=files(after, before),
            moved=tuple(moved(before, after)),
        )
        at_once(plain.commit(ordinary))

        rows = written(apart_dir, before, after)
        assert rows.digest == ordinary.digest
        large = replace(ordinary, puts=rows.puts, removes=rows.removes, bulk=rows)
        asyncio.run(apart.commit(large))
        rows.close()

        found, expected = contents(apart_dir), contents(plain_dir)
        if not before:
            # Whoever holds nothing is given the whole, and no list of it.
            assert found.pop("unfinished")[0][3] == "null"
            del expected["unfinished"]
        assert found == expected
        assert apart.running.moment == plain.running.moment
        assert not (apart_dir / bulk.FILE_NAME).exists()


@settings(max_examples=25)
@given(ENTITY_MAPS, ENTITY_MAPS)
def test_rows_are_read_as_the_plan_that_they_are(before: Map, after: Map) -> None:
    changes = diff_entities(dict.fromkeys(before) | after, before)
    plan = make_plan(changes, None)
    with tempfile.TemporaryDirectory() as name, closing(written(Path(name), before, after)) as rows:
        assert in_order(rows.changes) == in_order(plan.changes)
        assert len(rows.changes) == len(plan.changes)
        assert bool(rows.changes) == bool(plan.changes)
        assert in_order(rows.changes[1:3]) == in_order(plan.changes[1:3])
        assert Plan(None, rows.changes).counts() == plan.counts()
        assert list(with_files(rows.changes)) == []
        for kind in KINDS:
            expected = in_order(of_kinds(plan.changes, kind))
            assert in_order(of_kinds(rows.changes, kind)) == expected
            assert Plan(None, rows.changes).counts(kind) == plan.counts(kind)
        puts = [each.after for each in plan.changes if each.after is not None]
        assert list(rows.puts) == puts
        assert len(rows.puts) == len(puts)
        assert rows.removes == tuple(each.key for each in plan.changes if each.after is None)
        assert list(chunks(rows.puts, rows.removes)) == list(chunks(puts, rows.removes))


def test_what_names_files_is_found_before_and_after(tmp_path: Path) -> None:
    def cluster(name: str, sha256: str | None) -> Entity:
        tls = {"ca": {"path": "ca.pem", "sha256": sha256}} if sha256 else None
        return Entity(EntityKey("cluster", name), {"tls": tls}, Provenance("a.yaml", 1, 1))

    before = [cluster("had", "1" * 64), cluster("both", "2" * 64), cluster("gone", "3" * 64)]
    after = [cluster("had", None), cluster("both", "4" * 64), cluster("new", "5" * 64)]
    after.append(cluster("none", None))
    sides = [{each.key: each for each in side} for side in (before, after)]
    with closing(written(tmp_path, *sides)) as rows:
        found = {change.key.name for change in with_files(rows.changes)}
        assert found == {"had", "both", "gone", "new"}
        assert {put.key.name for put in with_files(rows.puts)} == {"had", "both", "new"}


def test_an_unfinished_load_is_the_whole_state_at_the_next_start(tmp_path: Path) -> None:
    after = {each.key: each for each in (backend("shop/a", 1), backend("shop/b", 2))}
    store = Store(tmp_path, relations_of)
    rows = written(tmp_path, {}, after)
    found = begun(store.running, tuple(after.values()))
    asyncio.run(store.commit(replace(found, puts=rows.puts, bulk=rows, whole=True)))
    rows.close()
    store.close()
    store = Store(tmp_path, relations_of)
    assert store.unfinished is not None
    assert {each.key for each in store.unfinished.puts} == after.keys()
    assert len(store.unfinished.puts) == 2
    store.close()


def test_a_commit_of_rows_that_cannot_be_written_was_never_made(tmp_path: Path) -> None:
    store = Store(tmp_path, relations_of)
    run(store, [backend("shop/a", 1)])
    before = contents(tmp_path)
    rows = written(tmp_path, {}, {each.key: each for each in (backend("shop/b", 2),)})
    with closing(sqlite3.connect(tmp_path / bulk.FILE_NAME)) as connection:
        connection.execute("DROP TABLE files")
    found = begun(store.running, (backend("shop/b", 2),))
    with pytest.raises(Exception, match="cannot be read: no such table"):
        asyncio.run(store.commit(replace(found, puts=rows.puts, bulk=rows)))
    assert contents(tmp_path) == before
    assert store.running.generation == 1
    run(store, [backend("shop/c", 3)])
    assert len(store.running.state) == 2
    store.close()


def test_nothing_of_a_moved_file_is_another_entity(tmp_path: Path) -> None:
    one = backend("shop/a", 1)
    store = Store(tmp_path, relations_of)
    run(store, [one])
    there = replace(one, provenance=Provenance("other.yaml", 7, 3))
    rows = written(tmp_path, {one.key: one}, {one.key: there})
    assert not rows.changes
    at_once(store.follow("c" * 40, "d" * 40, (), "2026-01-01T00:00:00+00:00", bulk=rows))
    rows.close()
    assert store.running.state[one.key] == there
    assert store.running.state.paths() == {"other.yaml"}
    store.close()


@given(
    *(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), max_size=6) for _ in range(2))
)
@settings(max_examples=25, deadline=None)
def test_the_sum_of_all_expressions_is_kept(one: dict[str, int], two: dict[str, int]) -> None:
    """By each way in which a commit is written, whoever has an expression with whom."""
    before, after = (
        {
            each.key: each
            for name, number in found.items()
            for each in [frontend(name, path={"regex": f"/{number}/[a-z]{{{number + 1}}}"})]
        }
        for found in (one, two)
    )
    weight = MemoryView(after.values()).weight()
    with store_with(before) as (plain, _), store_with(before) as (apart, apart_dir):
        assert plain.running.state.weight() == MemoryView(before.values()).weight()
        puts, removes = tuple(after.values()), tuple(before.keys() - after.keys())
        ordinary = begun(plain.running, puts, removes)
        at_once(plain.commit(ordinary))
        rows = written(apart_dir, before, after)
        large = replace(ordinary, puts=rows.puts, removes=rows.removes, bulk=rows)
        asyncio.run(apart.commit(large))
        rows.close()
        for store in (plain, apart):
            state = store.running.state
            assert state.weight() == state.weight_anew() == weight
            assert len(state) == len(after)
            assert state.heaviest(3) == MemoryView(after.values()).heaviest(3)
