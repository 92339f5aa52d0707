"""Snapshots: what they ask the database, and what of it they keep."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from reconciler.catalog.catalog import Candidate, stage
from reconciler.catalog.relations import CLEAR, SECURE, USE, relations_of
from reconciler.storage.file.database import FILE_NAME, DamagedError
from reconciler.storage.reading.running import Running
from reconciler.storage.reading.state import SnapshotState
from reconciler.storage.store import Store
from schemas.entities.entity import EntityKey
from tests.reconciler.entities import at_once, backend, begun, run

COUNT = 200


def tenants(count: int, port: int) -> dict[str, bytes | None]:
    files: dict[str, bytes | None] = {
        f"{number:04}.yaml": (
            f"clusters: {{c{number}: {{backends: "
            f"{{a: {{address: '10.0.0.1:{port + number}'}}}}}}}}\n"
            f"frontends: {{f{number}: {{listeners: [public], hostname: h{number}.test, "
            f"cluster: c{number}}}}}\n"
        ).encode()
        for number in range(count)
    }
    return files


def loaded(directory: Path) -> Store:
    """A state of so many files with a frontend, a cluster and a backend each."""
    store = Store(directory, partial(relations_of))
    listeners = b"listeners: {public: {address: '127.0.0.1:80'}}\n"
    with store.snapshot() as seen:
        found = stage(seen.state, {**tenants(COUNT, 1000), "listeners.yaml": listeners})
    assert found.ok, found.diagnostics
    puts = tuple(entity for entity in found.desired.values() if entity is not None)
    at_once(store.commit(replace(begun(store.running, puts), files=found.files)))
    at_once(store.done())
    return store


def counted(seen: Running, files: Mapping[str, bytes | None]) -> tuple[Candidate, int]:
    """What files come to, and by how many statements that was found."""
    asked: list[str] = []
    connection = seen.state._connection
    connection.set_trace_callback(asked.append)
    try:
        return stage(seen.state, files), len(asked)
    finally:
        connection.set_trace_callback(None)


def test_a_file_more_costs_few_statements_more(tmp_path: Path) -> None:
    """What each had before is asked for all of them at once."""
    store = loaded(tmp_path)
    with store.snapshot() as seen:
        few, asked_for_few = counted(seen, tenants(COUNT // 4, 2000))
    with store.snapshot() as seen:
        many, asked_for_many = counted(seen, tenants(COUNT, 2000))
    assert (len(few.desired), len(many.desired)) == (COUNT // 4, COUNT)
    # Who listens on the new port, and which backends the cluster has.
    assert (asked_for_many - asked_for_few) / (COUNT - COUNT // 4) < 2.1
    store.close()


def test_terms_are_told_once_however_many_stand_there(tmp_path: Path) -> None:
    store = loaded(tmp_path)
    with store.snapshot() as seen:
        clusters = [f"cluster/c{number}" for number in range(COUNT)]
        assert seen.state.terms(USE) == sorted(["listener/public", *clusters])
        assert seen.state.terms(CLEAR) == [""]
        assert seen.state.terms(SECURE) == []
    store.close()


def test_what_was_expected_is_what_is_there(tmp_path: Path) -> None:
    store = loaded(tmp_path)
    keys = [EntityKey("backend", f"c{number}/a") for number in range(COUNT + 5)]
    paths = [f"{number:04}.yaml" for number in range(COUNT + 5)]
    with store.snapshot() as seen, store.snapshot() as other:
        assert isinstance(seen.state, SnapshotState)
        seen.state.expect(keys)
        seen.state.expect_files(paths)
        assert [seen.state.get(key) for key in keys] == [other.state.get(key) for key in keys]
        assert [key in seen.state for key in keys] == [key in other.state for key in keys]
        assert [seen.state.marks(path) for path in paths] == [
            other.state.marks(path) for path in paths
        ]
        assert seen.state.marks(paths[0]) and not seen.state.marks(paths[-1])
    assert {entity.key for entity in store.running.state.many(keys)} == set(keys[:COUNT])
    store.close()


def test_damage_to_what_was_expected_is_noted(tmp_path: Path) -> None:
    store = loaded(tmp_path)
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("UPDATE entities SET value = '{}' WHERE name = 'c7/a'")
    database.execute("UPDATE files SET defines = '[]' WHERE path = '0007.yaml'")
    database.commit()
    database.close()
    with pytest.raises(DamagedError, match="c7/a"), store.snapshot() as seen:
        seen.state.expect([EntityKey("backend", f"c{number}/a") for number in range(9)])
    assert "c7/a" in str(store.damage.take())
    with pytest.raises(DamagedError, match=r"0007\.yaml"), store.snapshot() as seen:
        seen.state.expect_files([f"{number:04}.yaml" for number in range(9)])
    assert "0007.yaml" in str(store.damage.take())
    store.close()


def test_a_snapshot_finds_what_was_written_since_the_last_one(tmp_path: Path) -> None:
    """They share a connection, one after the other."""
    store = Store(tmp_path)
    for port in range(1, 6):
        run(store, [backend("shop/a", port)])
        with store.snapshot() as seen:
            run(store, [backend("shop/b", port)])
            found = [str(each.value["address"]) for each in seen.state.values()]
            assert found[0].endswith(f":{port}")
            assert len(found) == (1 if port == 1 else 2)
    assert len(store._opened.snapshots._kept) == 1
    store.close()
