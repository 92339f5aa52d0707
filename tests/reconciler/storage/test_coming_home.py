"""A state that stood elsewhere comes home: nothing is lost on the way, whatever fails there.

Neither what was recorded meanwhile, nor what lies at home and could not be read when it was left.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.source.following import Following
from reconciler.source.source import Source
from reconciler.storage import opened as module
from reconciler.storage.file.database import DamagedError, Database, UnreadError
from reconciler.storage.kept.drains import Drains
from reconciler.storage.kept.history import History
from reconciler.storage.opened import Opened
from reconciler.storage.store import Store
from tests.harness.repo import Repo
from tests.reconciler.storage.kept.test_history import commits, entry
from tests.reconciler.storage.test_store import apply, ports

BROKEN = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """What fails is tried again at each look."""
    monkeypatch.setattr(module, "_RETURN_EVERY_S", 0.0)
    made = Store(tmp_path / "state")
    yield made
    made.close()


def unread(_: Database, __: Path) -> bool:
    """The disk gives nothing back."""
    return False


def start_elsewhere(store: Store) -> Path:
    """The disk fails, as at a start; returns where the state is now."""
    store._opened.start_elsewhere(BROKEN)
    return store.scratch


def test_what_stands_in_goes_on_until_home_can_be_opened(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be written there by then, and what was written cannot be read."""
    apply(store, ("shop/a", 1))
    elsewhere, reopen = start_elsewhere(store), Opened.reopen

    def unopened(opened: Opened, running: object) -> None:
        if opened.is_home:
            raise UnreadError("database disk image is malformed")
        reopen(opened, running)  # type: ignore[arg-type]

    with monkeypatch.context() as disk:
        disk.setattr(Opened, "reopen", unopened)
        for port in (2, 3):
            store.look()
            assert store.scratch == elsewhere
            assert store.materials.directory.is_relative_to(elsewhere)
            assert store.materials.directory.is_dir()
            store.keep("what others write", str(port))
            assert "cannot be written" in (store.place.problem or "")
    store.look()
    assert store.scratch == tmp_path / "state"
    assert not elsewhere.exists()
    assert store.place.problem is None
    assert store.kept("what others write") == "3"
    apply(store, ("shop/a", 4))
    assert ports(store) == {"shop/a": "127.0.0.1:4"}


def test_it_comes_home_where_what_stands_in_was_taken_away(store: Store) -> None:
    """Temporary directories are tidied up: what is open is all that is left of it."""
    apply(store, ("shop/a", 1))
    shutil.rmtree(start_elsewhere(store))
    store.look()
    assert store.scratch == store.place.directory
    apply(store, ("shop/a", 2))
    assert ports(store) == {"shop/a": "127.0.0.1:2"}


def test_what_could_not_be_read_comes_back_beside_what_came_since(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        apply(store, ("shop/a", 1))
        drains, history, epoch = Drains(store), History(store), store.epoch
        for name in ("shop/a", "shop/b"):
            drains.add(name, "before", None)
        for commit in ("a", "b"):
            history.add(entry(commit))
        drains.stop()
        with monkeypatch.context() as disk:
            disk.setattr(Database, "copy_files", unread)
            start_elsewhere(store)
            with pytest.raises(OSError, match="cannot be written"):
                store.kept("drains")
            drains, history = Drains(store), History(store)
            assert drains.names() == []
            for name in ("shop/b", "shop/c"):
                with pytest.raises(OSError, match="of before cannot be read"):
                    drains.add(name, "since", None)
            with pytest.raises(OSError, match="of before cannot be read"):
                drains.remove("shop/c")
            history.add(entry("c"))
            disk.setattr(Database, "read_through", broken)
            disk.setattr(Database, "connect", unconnected)
            store.look()
            assert store.scratch != store.place.directory, "it waits for what cannot be read"
        store.look()
        assert store.scratch == store.place.directory
        assert store.take_rebuilt()
        drains.write()
        drains.stop()
        assert {each.backend: each.owner for each in Drains(store).all()} == {
            "shop/a": "before",
            "shop/b": "since",
        }
        assert commits(History(store)) == ["c", "b", "a"]
        assert store.epoch > epoch
        assert any("could not be read at the start" in each for each in store.notes.told())

    asyncio.run(run())


def test_generations_count_on_where_nobody_knows_the_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told by its number is one thing, also when home can be read again."""
    for port in (1, 2):
        apply(store, ("shop/a", port))
    with monkeypatch.context() as disk:
        disk.setattr(Database, "copy_files", unread)
        start_elsewhere(store)
        assert (store.running.is_empty, store.running.generation > 2) == (True, True)
        apply(store, ("shop/a", 3))
        since = store.running.generation
    store.look()
    assert store.scratch == store.place.directory
    apply(store, ("shop/a", 4))
    assert store.running.generation == since + 1


def test_generations_count_on_from_what_the_history_still_tells(
    store: Store, tmp_path: Path
) -> None:
    apply(store, ("shop/a", 1))
    History(store).add({**entry("a"), "generation": 41})
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        connection.execute("UPDATE running SET generation = 'damaged'")
    store.start_anew(DamagedError("a flipped bit"))
    assert (store.running.is_empty, store.running.generation) == (True, 41)


def broken(_: Database) -> None:
    raise BROKEN


def unconnected(_: Database) -> None:
    raise UnreadError("database disk image is malformed")


def test_what_could_not_be_written_is_written_when_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        apply(store, ("shop/a", 1))
        drains, history = Drains(store), History(store)
        for name in ("shop/a", "shop/b"):
            drains.add(name, "before", None)

        def failing() -> None:
            raise BROKEN

        with monkeypatch.context() as disk:
            disk.setattr(store._opened, "writing", failing)
            history.add(entry("a"))
            with pytest.raises(OSError, match="Input/output"):
                drains.add("shop/c", "since", None)
            with pytest.raises(OSError, match="Input/output"):
                drains.remove("shop/a")
        store.place.failed(BROKEN)
        store.look()
        assert store.take_rebuilt()
        for write in (drains.write, history.write):
            write()
        drains.stop()
        assert Drains(store).names() == ["shop/b", "shop/c"]
        assert commits(History(store)) == ["a"]

    asyncio.run(run())


def test_the_branch_that_could_not_be_read_is_not_forgotten(
    store: Store, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit({"a.yaml": "1"})
    repo.git("branch", "production")
    given = Following(store, repo.directory, "production")
    given.keep(Source(repo.directory, given.wanted))
    with monkeypatch.context() as disk:
        disk.setattr(Database, "copy_files", unread)
        start_elsewhere(store)
    found = Following(store, repo.directory, None)
    source = Source(repo.directory, found.wanted)
    found.keep(source)
    assert source.ref == "refs/heads/main"
    store.look()
    found.write(source)
    found.keep(source)
    assert "refs/heads/production was followed before" in (found.warning(source) or "")
    assert Following(store, repo.directory, None).wanted == "refs/heads/production"


@pytest.mark.parametrize("damaged", [False, True])
def test_a_read_that_fails_is_no_damage(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """At a start: what lies there is left alone, unless it reads well and does not fit."""
    apply(store, ("shop/a", 1))
    store.close()
    path = tmp_path / "state" / "state.db"
    if damaged:
        path.write_bytes(b"x" * path.stat().st_size)
    before = path.read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(Database, "copy_files", unread)
        disk.setattr(Database, "read_through", lambda of: broken(of) if of.path == path else None)
        disk.setattr(Opened, "_read_running", lambda opened, _: unopened_at_home(opened, actual))
        again = Store(tmp_path / "state")
        assert again.running.is_empty
        assert path.read_bytes() == before
    again.look()
    aside = list(path.parent.glob("*.damaged-*"))
    assert [each.read_bytes() for each in aside] == ([before] if damaged else [])
    again.close()


actual = Opened._read_running


def unopened_at_home(opened: Opened, read: object) -> None:
    if opened.is_home:
        raise UnreadError("database disk image is malformed")
    read(opened, opened._reader)  # type: ignore[operator]


def test_a_look_that_fails_is_no_loss(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(store, ("shop/a", 1))

    def failing(_: object) -> None:
        raise BROKEN

    with monkeypatch.context() as disk:
        disk.setattr("reconciler.storage.file.place._identity", failing)
        # What a thread has found a moment ago still counts.
        time.sleep(0.1)
        store.look()
        assert store.scratch == store.place.directory
        assert store.place.problem is not None
    store.look()
    assert store.place.problem is None
    assert not any("written anew" in each for each in store.notes.told())
