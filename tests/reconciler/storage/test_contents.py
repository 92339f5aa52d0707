"""Contents are there for as long as somebody may read them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reconciler.storage.contents import MaterialStore
from schemas.change import Change
from schemas.entity import NOWHERE, Entity, EntityKey

OLD, NEW = b"old", b"new"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def certificate(content: bytes) -> Entity:
    files = {
        field: {"path": f"shop.{field}", "sha256": sha256(content)}
        for field in ("certificate", "private_key")
    }
    return Entity(EntityKey("certificate", "shop"), {**files, "ocsp": None}, NOWHERE)


def replaced(before: bytes, after: bytes) -> Change:
    old, new = certificate(before), certificate(after)
    return Change("update", old.key, old, new, ())


def held(store: MaterialStore) -> set[bytes]:
    return {path.read_bytes() for path in store.directory.iterdir()}


def store_with(directory: Path, content: bytes) -> MaterialStore:
    made = MaterialStore(directory, [certificate(content)])
    made.keep([certificate(content)], {sha256(content): content})
    return made


def test_what_nobody_names_any_more_goes(tmp_path: Path) -> None:
    store = store_with(tmp_path, OLD)
    store.keep([certificate(NEW)], {sha256(NEW): NEW})
    store.applied([replaced(OLD, NEW)])
    assert held(store) == {NEW}


def test_what_is_read_stays_until_nobody_reads(tmp_path: Path) -> None:
    """A worker that takes in the state of a moment ago still has to find its certificates."""
    store = store_with(tmp_path, OLD)
    with store.kept():
        with store.kept():
            store.keep([certificate(NEW)], {sha256(NEW): NEW})
            store.applied([replaced(OLD, NEW)])
            # One that names the old content again, and is refused.
            store.dropped([certificate(OLD)])
        assert held(store) == {OLD, NEW}
    assert held(store) == {NEW}


def test_what_came_back_meanwhile_stays(tmp_path: Path) -> None:
    store = store_with(tmp_path, OLD)
    with store.kept():
        store.keep([certificate(NEW)], {sha256(NEW): NEW})
        store.applied([replaced(OLD, NEW)])
        store.keep([certificate(OLD)], {sha256(OLD): OLD})
        store.applied([replaced(NEW, OLD)])
    assert held(store) == {OLD}
