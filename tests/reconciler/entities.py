"""Entities and begun transactions for the tests of what stores and sends them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.loop.stager import digest_after
from reconciler.storage.file.database import FILE_NAME
from reconciler.storage.reading.header import Header
from reconciler.storage.reading.running import Running
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun
from schemas.changes.change import Change
from schemas.entities.entity import Entity, EntityKey, Json, Provenance


def backend(name: str, port: int, line: int = 1) -> Entity:
    value: dict[str, Json] = {"address": f"127.0.0.1:{port}"}
    return Entity(EntityKey("backend", name), value, Provenance("shop.yaml", line, 3))


def begun(
    running: Running,
    puts: tuple[Entity, ...],
    removes: tuple[EntityKey, ...] = (),
    moved: tuple[Entity, ...] = (),
) -> Begun:
    """A transaction on what runs now."""
    changes = []
    for entity in puts:
        before = running.state.get(entity.key)
        changes.append(Change("update" if before else "add", entity.key, before, entity, ()))
    changes += [Change("remove", key, running.state[key], None, ()) for key in removes]
    generation = running.generation + 1
    return Begun(
        generation=generation,
        base_generation=running.generation,
        base_digest=running.state.digest,
        digest=digest_after(running.state.digest, tuple(changes)),
        commit=f"{generation:040x}",
        tree=f"{generation + 1000:040x}",
        at="2026-01-01T00:00:00.000+00:00",
        puts=puts,
        removes=removes,
        moved=moved,
    )


def at_once(doing: Coroutine[Any, Any, object]) -> None:
    """What a loop would wait for, for who has none, or shall not let go of his."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, doing).result()


def run(store: Store, puts: Iterable[Entity], removes: tuple[EntityKey, ...] = ()) -> None:
    """One transaction through the store, as the runner does it."""
    at_once(store.commit(begun(store.running, tuple(puts), removes)))
    at_once(store.done())


def leave(
    directory: Path,
    entities: Iterable[Entity],
    language: str,
    commit: str | None = None,
    tree: str | None = None,
) -> str:
    """A state directory as a version with another language left it; its digest."""
    store = Store(directory)
    puts = tuple(entities)
    made = begun(store.running, puts, tuple({*store.running.state} - {each.key for each in puts}))
    at_once(store.commit(replace(made, commit=commit or made.commit, tree=tree or made.tree)))
    at_once(store.done())
    digest = store.running.state.digest
    store.close()
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as database:
        [row] = database.execute("SELECT * FROM running").fetchall()
        _, *fields, _ = row
        header = replace(Header(*fields), language=language)
        values = (language, header.check_sum)
        database.execute("UPDATE running SET language = ?, check_sum = ?", values)
        database.commit()
    return digest
