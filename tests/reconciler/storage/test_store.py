from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import MachineError
from reconciler.storage import store as module
from reconciler.storage.store import Store
from tests.reconciler.entities import backend, begun


def apply(store: Store, *changes: tuple[str, int], removes: tuple[str, ...] = ()) -> None:
    """Run one transaction through the store, as the runner does."""
    running = store.running
    puts = tuple(backend(name, port) for name, port in changes)
    keys = tuple(backend(name, 1).key for name in removes)
    store.begin(begun(running, puts, keys))
    store.commit()
    store.done()


def ports(store: Store) -> dict[str, str]:
    return {
        key.name: str(each.value["address"]) for key, each in store.running.state.entities.items()
    }


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


def test_a_begin_alone_is_an_abort(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    store.begin(begun(store.running, (backend("shop/a", 9),)))
    store = reopened(store, tmp_path)
    assert ports(store) == {"shop/a": "127.0.0.1:1"}
    # The number is free again: a generation is a committed transaction.
    apply(store, ("shop/a", 2))
    assert store.running.generation == 2
    store.close()


def test_a_commit_without_done_is_finished_by_the_next_start(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    order = begun(store.running, (backend("shop/a", 9),))
    store.begin(order)
    store.commit()
    store = reopened(store, tmp_path)
    assert store.unfinished == order
    assert ports(store) == {"shop/a": "127.0.0.1:9"}
    store.done()
    store = reopened(store, tmp_path)
    assert store.unfinished is None
    store.close()


def test_a_commit_that_changes_nothing_only_moves_the_commit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    digest = store.running.state.digest
    store.follow("c" * 40, "d" * 40, [backend("shop/a", 1, line=7)], "now")
    store = reopened(store, tmp_path)
    running = store.running
    assert (running.commit, running.tree, running.generation) == ("c" * 40, "d" * 40, 1)
    assert running.state.digest == digest
    assert running.state[backend("shop/a", 1).key].provenance.line == 7
    store.close()


def test_power_loss_at_every_byte_of_three_transactions(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    store = Store(directory)
    states = {(0, ""): "none"}
    for number in range(1, 4):
        apply(store, (f"shop/{number}", number), ("shop/same", number))
        states[store.running.generation, str(store.running.commit)] = store.running.state.digest
    store.close()
    content = (directory / "journal").read_bytes()
    seen = set()
    torn = tmp_path / "torn"
    for cut in range(len(content) + 1):
        torn.mkdir(exist_ok=True)
        (torn / "journal").write_bytes(content[:cut])
        again = Store(torn)
        running = again.running
        key = (running.generation, running.commit or "")
        assert key in states
        if running.generation:
            assert running.state.digest == states[key]
            assert running.state.recomputed_digest() == states[key]
        seen.add(running.generation)
        apply(again, ("shop/after", 5))
        assert again.running.generation == running.generation
        again.close()
    assert seen == {0, 1, 2, 3}


def test_a_snapshot_and_a_journal_give_the_same_state(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1), ("shop/b", 2))
    store.compact()
    assert (tmp_path / "journal").stat().st_size == 0
    apply(store, ("shop/a", 3))
    digest = store.running.state.digest
    store = reopened(store, tmp_path)
    assert store.running.state.digest == digest
    assert (store.running.generation, store.epoch) == (2, 2)
    store.close()


def test_a_crash_between_snapshot_and_journal_does_not_apply_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    apply(store, ("shop/a", 1))
    apply(store, ("shop/a", 2), ("shop/b", 2))
    journal = (tmp_path / "journal").read_bytes()
    store.compact()
    store.close()
    (tmp_path / "journal").write_bytes(journal)
    store = Store(tmp_path)
    assert ports(store) == {"shop/a": "127.0.0.1:2", "shop/b": "127.0.0.1:2"}
    assert store.running.generation == 2
    store.close()


def test_the_snapshot_is_written_when_the_journal_outgrew_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOURNAL_BYTES_MIN", 2000)
    store = Store(tmp_path)
    compacted = 0
    for number in range(60):
        apply(store, ("shop/a", number + 1))
        compacted += store.compact_if_due()
    # 60 transactions of about 600 bytes: each compaction pays for 2,000 bytes of journal.
    assert 5 <= compacted <= 30
    store = reopened(store, tmp_path)
    assert store.running.generation == 60
    store.close()


def test_an_unfinished_transaction_is_not_compacted_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOURNAL_BYTES_MIN", 0)
    store = Store(tmp_path)
    store.begin(begun(store.running, (backend("shop/a", 1),)))
    store.commit()
    assert not store.compact_if_due()
    store = reopened(store, tmp_path)
    assert store.unfinished is not None
    store.close()


@given(st.binary(min_size=1, max_size=40), st.integers(0, 10_000))
def test_a_damaged_snapshot_is_put_aside(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, position: int
) -> None:
    directory = tmp_path_factory.mktemp("state")
    store = Store(directory)
    apply(store, ("shop/a", 1))
    store.compact()
    apply(store, ("shop/a", 2))
    store.close()
    content = bytearray((directory / "snapshot").read_bytes())
    at = position % len(content)
    content[at : at + len(garbage)] = garbage
    intact = bytes(content) == (directory / "snapshot").read_bytes()
    (directory / "snapshot").write_bytes(bytes(content))
    store = Store(directory)
    if intact or (store.running.state.entities and not store.notes):
        assert ports(store) == {"shop/a": "127.0.0.1:2"}
    else:
        assert store.notes
        assert len(store.running.state) == 0
        assert store.running.generation == 2, "a number is never used for two things"
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
        patched.setattr("reconciler.storage.journal.os.fdatasync", full)
        with pytest.raises(OSError, match="no space"):
            store.begin(begun(store.running, (backend("shop/a", 9),)))
    apply(store, ("shop/a", 2))
    store = reopened(store, tmp_path)
    assert (store.running.generation, ports(store)) == (2, {"shop/a": "127.0.0.1:2"})
    store.close()
