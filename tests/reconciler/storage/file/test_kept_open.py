"""The file of the database is read beside SQLite, and its locks stay: others see it in use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.storage.file.database import FILE_NAME
from reconciler.storage.file.kept_open import KeptOpen
from reconciler.storage.store import Store
from tests.reconciler.building import entity
from tests.reconciler.entities import run as apply

_VISIT = (
    "import sqlite3, sys; opened = sqlite3.connect(sys.argv[1]);"
    "opened.execute('SELECT 1 FROM running'); opened.close()"
)


def looked(store: Store, _directory: Path) -> None:
    store.look()


def read_through(store: Store, _directory: Path) -> None:
    assert asyncio.run(store.is_well())


def copied(store: Store, directory: Path) -> None:
    (directory / "copy").mkdir()
    assert store._opened.database.copy_files(directory / "copy")


@pytest.mark.parametrize("read", [looked, read_through, copied])
def test_another_program_that_comes_and_goes_leaves_the_log(
    tmp_path: Path, read: Callable[[Store, Path], None]
) -> None:
    store = Store(tmp_path / "state")
    apply(store, [entity("cluster", "one")])
    read(store, tmp_path)
    path = tmp_path / "state" / FILE_NAME
    log = path.with_name(f"{FILE_NAME}-wal")
    inode = log.stat().st_ino
    # The last one to close a database removes its log.
    subprocess.run([sys.executable, "-c", _VISIT, path], check=True)
    assert log.stat().st_ino == inode
    apply(store, [entity("cluster", "two")])
    store.close()


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    kept = KeptOpen(path)
    assert kept.beginning(16) == b"".join(kept.parts()) == b"one"
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        new = tmp_path / "new"
        new.write_bytes(str(number).encode())
        new.rename(path)
        assert kept.beginning(16) == str(number).encode()
    assert len(os.listdir("/proc/self/fd")) == before
    path.unlink()
    with pytest.raises(FileNotFoundError):
        kept.beginning(16)
    os.mkfifo(path)
    assert list(kept.parts()) == []
    del kept
    assert len(os.listdir("/proc/self/fd")) == before - 1
