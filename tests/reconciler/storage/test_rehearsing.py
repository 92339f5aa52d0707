"""What an idle daemon does for its first commit leaves nothing behind."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

from reconciler.catalog.relations import relations_of
from reconciler.storage.file.database import FILE_NAME
from reconciler.storage.store import Store
from schemas.entities.entity import Mark
from tests.reconciler.entities import at_once, backend, begun


def rows(directory: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as database:
        return list(database.iterdump())


def test_nothing_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path, relations_of)
    puts = (backend("shop/a", 1), backend("shop/b", 2))
    marks = {each.key: Mark(b"f", 1, 1) for each in puts}
    at_once(store.commit(replace(begun(store.running, puts), files={"a.yaml": marks})))
    at_once(store.done())
    log = tmp_path / f"{FILE_NAME}-wal"
    before, size, digest = rows(tmp_path), log.stat().st_size, store.running.state.digest
    said: list[str] = []
    store._opened.writer._connection.set_trace_callback(said.append)
    store.rehearse()
    store._opened.writer._connection.set_trace_callback(None)
    assert any(each.startswith("INSERT INTO relations") for each in said), "it is what commits do"
    assert (rows(tmp_path), log.stat().st_size) == (before, size)
    assert (store.running.generation, store.running.state.digest) == (1, digest)
    # And the next commit is as any other.
    at_once(store.commit(begun(store.running, (backend("shop/a", 3),))))
    assert store.running.generation == 2
    store.close()


def test_there_may_be_nothing_to_rehearse(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.rehearse()
    assert store.running.is_empty
    store.close()
