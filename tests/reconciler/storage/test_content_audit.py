"""The look at contents: which is missing or altered is found, and nothing else is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.catalog.relations import relations_of
from reconciler.storage import content_audit as module
from reconciler.storage.content_audit import MaterialAudit
from reconciler.storage.store import Store
from schemas.entities.entity import NOWHERE, Entity, EntityKey
from tests.reconciler.entities import run as apply
from tests.reconciler.storage.kept.test_contents import sha256

MANY = 7


def content(number: int, field: str) -> bytes:
    return f"{field} {number}".encode()


def certificate(number: int) -> Entity:
    files = {
        field: {"path": f"c{number}.{field}", "sha256": sha256(content(number, field))}
        for field in ("certificate", "private_key")
    }
    return Entity(EntityKey("certificate", f"c{number}"), {**files, "ocsp": None}, NOWHERE)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    # Several batches, and one that is not full.
    monkeypatch.setattr(module, "_CONTENTS", 3)
    monkeypatch.setattr(module, "_NAMES", 4)
    store = Store(tmp_path / "state", relations_of)
    found = [certificate(number) for number in range(MANY)]
    contents = {
        sha256(each): each
        for number in range(MANY)
        for each in (content(number, "certificate"), content(number, "private_key"))
    }
    store.materials.keep(found, contents)
    apply(store, found)
    return store


def looked(store: Store, *, contents: bool) -> list[str]:
    told: list[EntityKey] = []

    async def mend(keys: Sequence[EntityKey]) -> None:
        told.extend(keys)

    is_found = asyncio.run(MaterialAudit(store, mend).look(contents=contents))
    assert is_found == told
    return sorted(key.name for key in told)


def path_of(store: Store, number: int) -> Path:
    return store.materials.directory / sha256(content(number, "private_key"))


def test_what_is_whole_is_left_alone(store: Store) -> None:
    for contents in (False, True):
        assert looked(store, contents=contents) == []


def test_what_is_gone_is_found_by_its_name(store: Store) -> None:
    for number in (0, 3, MANY - 1):
        path_of(store, number).unlink()
    for contents in (False, True):
        assert looked(store, contents=contents) == ["c0", "c3", "c6"]


def test_what_was_altered_is_found_by_what_it_is(store: Store) -> None:
    path_of(store, 4).write_bytes(b"private_kez 4")
    assert looked(store, contents=False) == []
    assert looked(store, contents=True) == ["c4"]


def test_the_directory_alone_that_is_gone_is_one_without_files(store: Store) -> None:
    store.materials.directory.rename(store.materials.directory.with_name("elsewhere"))
    assert looked(store, contents=False) == [f"c{number}" for number in range(MANY)]


def test_a_state_directory_that_is_gone_is_nothing_of_this(store: Store) -> None:
    """Whoever keeps its place writes all of it anew."""
    home = store.materials.directory.parent
    home.rename(home.with_name("elsewhere"))
    assert looked(store, contents=True) == []
    assert not home.exists()
