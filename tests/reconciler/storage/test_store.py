from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import MachineError
from reconciler.storage.file.database import FILE_NAME, DamagedError, Database
from reconciler.storage.store import Store
from schemas.changes.state import EMPTY_DIGEST, State
from schemas.entities.entity import Entity
from tests.reconciler.entities import at_once, backend, begun


def apply(store: Store, *changes: tuple[str, int], removes: tuple[str, ...] = ()) -> None:
    """Run one transaction through the store, as the runner does."""
    running = store.running
    puts = tuple(backend(name, port) for name, port in changes)
    keys = tuple(backend(name, 1).key for name in removes)
    at_once(store.commit(begun(running, puts, keys)))
    at_once(store.done())


def ports(store: Store) -> dict[str, str]:
    return {each.key.name: str(each.value["address"]) for each in store.running.state.values()}


def reopened(store: Store, directory: Path) -> Store:
    store.close()
    return Store(directory)


def test_a_transaction_survives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1), ("shop/b", 2))
    apply(store, ("shop/a", 3), removes=("shop/b",))
    digest = store.running.state.digest
    store = reopened(store, tmp_path)
    assert ports(store) == {"shop/a": "127.0.0.1:3"}
    assert (store.running.generation, store.running.state.digest) == (2, digest)
    assert store.running.commit == f"{2:040x}"
    assert store.unfinished is None
    store.close()


def test_the_epoch_grows_with_each_start(tmp_path: Path) -> None:
    epochs = []
    for _ in range(3):
        store = Store(tmp_path)
        epochs.append(store.epoch)
        store.close()
    assert epochs == [1, 2, 3]


def test_a_commit_without_done_is_finished_by_the_next_start(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    order = begun(store.running, (backend("shop/a", 9),))
    at_once(store.commit(order))
    store = reopened(store, tmp_path)
    found = store.unfinished
    assert found is not None
    assert (found.generation, found.base_generation) == (2, 1)
    assert (found.base_digest, found.digest) == (order.base_digest, order.digest)
    assert (found.puts, found.removes) == (order.puts, order.removes)
    assert ports(store) == {"shop/a": "127.0.0.1:9"}
    at_once(store.done())
    store = reopened(store, tmp_path)
    assert store.unfinished is None
    store.close()


def test_a_snapshot_does_not_last_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.storage.store.SNAPSHOT_S_MAX", 0.2)
    monkeypatch.setattr("reconciler.storage.file.database._STEPS", 1)
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    with store.snapshot() as seen:
        assert seen.state.count("backend") == 1
        time.sleep(0.3)
        with pytest.raises(OSError, match="interrupted"):
            list(seen.state.values())
    with store.snapshot() as seen:
        assert seen.state.count("backend") == 1
    store.close()


def test_a_commit_that_changes_nothing_only_moves_the_commit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    digest = store.running.state.digest
    at_once(store.follow("c" * 40, "d" * 40, [backend("shop/a", 1, line=7)], "now"))
    store = reopened(store, tmp_path)
    running = store.running
    assert (running.commit, running.tree, running.generation) == ("c" * 40, "d" * 40, 1)
    assert running.state.digest == digest
    assert running.state[backend("shop/a", 1).key].provenance.line == 7
    store.close()


def test_power_loss_at_every_place_of_three_transactions(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    store = Store(directory)
    states = {(0, ""): EMPTY_DIGEST}
    for number in range(1, 4):
        apply(store, (f"shop/{number}", number), ("shop/same", number))
        states[store.running.generation, str(store.running.commit)] = store.running.state.digest
    # What a crash leaves: nobody has closed the database.
    content = {name: (directory / name).read_bytes() for name in (FILE_NAME, f"{FILE_NAME}-wal")}
    store.close()
    log = content[f"{FILE_NAME}-wal"]
    torn, seen = tmp_path / "torn", set()
    for cut in (*range(0, len(log), 509), len(log)):
        shutil.rmtree(torn, ignore_errors=True)
        torn.mkdir()
        (torn / FILE_NAME).write_bytes(content[FILE_NAME])
        (torn / f"{FILE_NAME}-wal").write_bytes(log[:cut])
        again = Store(torn)
        running = again.running
        assert running.state.digest == states[running.generation, running.commit or ""]
        assert digest_of(running.state.values()) == running.state.digest
        assert again.notes.told() == []
        seen.add(running.generation)
        apply(again, ("shop/after", 5))
        assert again.running.generation == running.generation
        again.close()
    assert seen == {0, 1, 2, 3}


def digest_of(entities: Iterable[Entity]) -> str:
    return State(entities).digest


@pytest.mark.parametrize("part", [FILE_NAME, f"{FILE_NAME}-wal"])
@given(st.binary(min_size=1, max_size=40), st.integers(0, 1 << 20))
@settings(max_examples=60)
def test_a_damaged_database_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, part: str, garbage: bytes, position: int
) -> None:
    """No flipped byte is ever served as if it had been written."""
    directory = tmp_path_factory.mktemp("state")
    store = Store(directory)
    apply(store, ("shop/a", 1))
    if part == FILE_NAME:
        store.close()
        store = Store(directory)
    apply(store, ("shop/a", 2), ("shop/b", 2))
    kept = {path.name: path.read_bytes() for path in directory.glob(f"{FILE_NAME}*")}
    written = [("127.0.0.1:1",), ("127.0.0.1:2", "127.0.0.1:2"), ()]
    store.close()
    for name, content in kept.items():
        (directory / name).write_bytes(content)
    (directory / f"{FILE_NAME}-shm").unlink(missing_ok=True)
    content = bytearray(kept[part])
    at = position % len(content)
    content[at : at + len(garbage)] = garbage
    (directory / part).write_bytes(content)
    try:
        store = Store(directory)
    except MachineError as error:
        assert "newer version" in str(error) or "cannot use" in str(error)
        return
    try:
        found = tuple(ports(store)[name] for name in sorted(ports(store)))
    except DamagedError:
        store.close()
        return
    assert found in written
    assert found != () or store.notes.told() or part != FILE_NAME
    store.close()


def test_a_damaged_file_is_put_aside_and_no_number_is_used_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    apply(store, ("shop/a", 2))
    store.close()
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content.replace(b"127.0.0.1:2", b"127.0.0.1:3"))
    store = Store(tmp_path)
    with pytest.raises(DamagedError, match='backend "shop/a"'):
        ports(store)
    store.close()
    path.write_bytes(b"x" * len(content))
    store = Store(tmp_path)
    assert ports(store) == {}
    assert "kept as state.db.damaged-1" in store.notes.told()[0]
    store.close()


def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("PRAGMA user_version=99")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(MachineError, match="newer version of Kakehi"):
        Store(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_what_the_first_version_wrote_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"1")
    (tmp_path / "snapshot").write_bytes(b"2")
    store = Store(tmp_path)
    assert (store.running.generation, len(store.notes.told())) == (0, 2)
    store.close()
    assert (tmp_path / "journal.former").read_bytes() == b"1"


def test_a_snapshot_sees_one_moment(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    with store.snapshot() as seen:
        apply(store, ("shop/a", 2), ("shop/b", 2))
        assert [each.value["address"] for each in seen.state.values()] == ["127.0.0.1:1"]
        assert seen.state.digest != store.running.state.digest
        assert (seen.generation, seen.commit) == (1, f"{1:040x}")
        assert seen.tree != store.running.tree
    assert ports(store) == {"shop/a": "127.0.0.1:2", "shop/b": "127.0.0.1:2"}
    store.close()


def test_the_log_is_copied_when_there_is_enough_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log never becomes shorter; its length must not make each commit copy it."""
    due_bytes, begun = 400_000, []
    monkeypatch.setattr("reconciler.storage.file.checkpoints.DUE_BYTES", due_bytes)
    checkpoint = Database.checkpoint
    store = Store(tmp_path)

    def counted(database: Database) -> None:
        begun.append(store._opened.index.uncopied_bytes)
        checkpoint(database)

    monkeypatch.setattr(Database, "checkpoint", counted)
    for number in range(150):
        apply(store, ("shop/a", number + 1))
        store._checkpoints.finish()
    assert all(each >= due_bytes for each in begun)
    assert 2 <= len(begun) < 15
    store.close()
    store = Store(tmp_path)
    assert ports(store) == {"shop/a": "127.0.0.1:150"}
    store.close()


def test_a_commit_leaves_the_locks_of_the_database(tmp_path: Path) -> None:
    """Without them the next process that opens it begins a new index of the log under this one."""
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    with store.snapshot() as seen:
        assert len(seen.state) == 1
    apply(store, ("shop/a", 2))
    # SQLite's lock that says that the index is in use (unixLockSharedMemory in its os_unix.c).
    script = (
        "import fcntl, sys; index = open(sys.argv[1], 'r+b')\n"
        "try: fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128); print('free')\n"
        "except OSError: print('held')"
    )
    index = str(tmp_path / f"{FILE_NAME}-shm")
    done = subprocess.run(
        [sys.executable, "-c", script, index], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "held\n", done.stderr
    store.close()


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    script = (
        "import sys; from pathlib import Path; from reconciler.storage.store import Store\n"
        "try: Store(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == f"another daemon (process {os.getpid()}) uses {tmp_path}\n"
    store.close()
    Store(tmp_path).close()


def test_a_directory_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot use the directory"):
        Store(tmp_path / "file")


def test_a_disk_that_is_full_at_begin_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr("reconciler.faults.point", full)
        order = begun(store.running, (backend("shop/a", 9),))
        with pytest.raises(OSError, match="no space"):
            at_once(store.commit(order))
    apply(store, ("shop/a", 2))
    store = reopened(store, tmp_path)
    assert (store.running.generation, ports(store)) == (2, {"shop/a": "127.0.0.1:2"})
    store.close()
