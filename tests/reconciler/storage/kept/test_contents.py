"""Contents are there for as long as somebody may read them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from reconciler.storage.kept.contents import DIRECTORY, MaterialStore
from schemas.changes.change import Change
from schemas.entities.entity import NOWHERE, Entity, EntityKey

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


class Named:
    """The content that is named now, as the state tells it."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __call__(self, digest: str) -> bool:
        return digest == sha256(self.content)


def store_with(directory: Path, named: Named) -> MaterialStore:
    made = MaterialStore(directory, named)
    made.keep([certificate(named.content)], {sha256(named.content): named.content})
    return made


def replace(store: MaterialStore, named: Named, content: bytes) -> None:
    before, named.content = named.content, content
    store.keep([certificate(content)], {sha256(content): content})
    store.applied([replaced(before, content)])


def test_what_nobody_names_any_more_goes(tmp_path: Path) -> None:
    named = Named(OLD)
    store = store_with(tmp_path, named)
    replace(store, named, NEW)
    assert held(store) == {NEW}


def test_what_is_read_stays_until_nobody_reads(tmp_path: Path) -> None:
    """A worker that takes in the state of a moment ago still has to find its certificates."""
    named = Named(OLD)
    store = store_with(tmp_path, named)
    with store.kept():
        with store.kept():
            replace(store, named, NEW)
            # One that names the old content again, and is refused.
            store.dropped([certificate(OLD)])
        assert held(store) == {OLD, NEW}
    assert held(store) == {NEW}


def test_what_came_back_meanwhile_stays(tmp_path: Path) -> None:
    named = Named(OLD)
    store = store_with(tmp_path, named)
    with store.kept():
        replace(store, named, NEW)
        replace(store, named, OLD)
    assert held(store) == {OLD}


def test_one_that_cannot_be_taken_away_does_not_keep_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_with(tmp_path, Named(OLD))
    stuck = "0" * 64
    (store.directory / stuck / "within").mkdir(parents=True)
    (store.directory / ("f" * 64)).write_bytes(NEW)
    store.forget_unused()
    assert {path.name for path in store.directory.iterdir()} == {sha256(OLD), stuck}
    assert "files that nobody needs any more are left over" in capsys.readouterr().err


def test_what_stands_in_has_all_and_brings_home_what_has_come(tmp_path: Path) -> None:
    """The state directory cannot be written for a while, and twice another place stands in."""
    home, first, second = (tmp_path / name for name in ("home", "first", "second"))
    named = Named(OLD)
    store = store_with(home, named)
    for place in (first, second):
        place.mkdir()
        store.stand_in(place)
        assert store.directory == place / DIRECTORY
        named.content = NEW
        store.keep([certificate(NEW)], {sha256(NEW): NEW})
        assert held(store) == {OLD, NEW}
    shutil.rmtree(first)
    assert held(store) == {OLD, NEW}
    store.write_home()
    store.be_home()
    shutil.rmtree(second)
    assert store.directory == home / DIRECTORY
    assert held(store) == {OLD, NEW}
    assert not any(path.is_symlink() for path in store.directory.iterdir())


@pytest.mark.parametrize("begun", ["before", "anew"])
def test_what_is_lost_with_the_directory_is_written_from_memory(tmp_path: Path, begun: str) -> None:
    named = Named(OLD)
    store = store_with(tmp_path, named)
    if begun == "anew":
        store = MaterialStore(tmp_path, named)
        store.copy()
    shutil.rmtree(store.directory)
    assert store.mend([certificate(OLD)], lambda _: NEW) == (["shop.private_key"], {})
    assert held(store) == {OLD}


def test_what_is_nowhere_is_told(tmp_path: Path) -> None:
    store = store_with(tmp_path, Named(OLD))
    (store.directory / sha256(OLD)).write_bytes(NEW)
    again = MaterialStore(tmp_path, Named(OLD))
    again.copy()
    assert again.mend([certificate(OLD)], lambda _: NEW) == ([], {sha256(OLD): "shop.private_key"})
    assert again.mend([certificate(OLD)], lambda _: OLD) == (["shop.private_key"], {})
