"""What SQLite does not read of a log: told when it was committed once, and only then."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.storage.file.checkpoints import LogIndex
from reconciler.storage.file.database import Database
from reconciler.storage.file.log_tail import DAMAGED, TORN, lost_behind

_FRAME = 24 + 4096
WRITES = 5


def written(connection: sqlite3.Connection, count: int = WRITES) -> None:
    for number in range(count):
        connection.execute("INSERT INTO files VALUES (?, ?, x'')", (f"{number:09}", "{}"))


def left(directory: Path, write: Callable[[sqlite3.Connection], None]) -> Path:
    """What a process that was killed leaves behind: the files as they are while it writes."""
    before, after = directory / "before", directory / "after"
    before.mkdir()
    with closing(Database(before).open()) as connection:
        write(connection)
        shutil.copytree(before, after)
    return after


def said(directory: Path) -> str | None:
    database = Database(directory)
    found: list[str | None] = []
    with closing(LogIndex(database)) as index:

        def look() -> None:
            frames = index.frames
            assert frames is not None
            found.append(lost_behind(database.log, frames))

        database.open(look).close()
    [told] = found
    return told


def altered(directory: Path, place: int, bit: int = 1) -> None:
    log = directory / "state.db-wal"
    content = bytearray(log.read_bytes())
    content[place] ^= bit
    log.write_bytes(content)


def test_a_log_that_was_left_in_the_middle_says_nothing(tmp_path: Path) -> None:
    def write(connection: sqlite3.Connection) -> None:
        written(connection)
        # So much that it goes to the log before it is committed.
        connection.execute("PRAGMA cache_size=10")
        connection.execute("BEGIN")
        for number in range(3000):
            connection.execute("INSERT INTO files VALUES (?, ?, x'')", (f"x{number}", "y" * 500))

    directory = left(tmp_path, write)
    assert (directory / "state.db-wal").stat().st_size > 200 * _FRAME
    assert said(directory) is None


def test_frames_of_a_log_before_say_nothing(tmp_path: Path) -> None:
    def write(connection: sqlite3.Connection) -> None:
        written(connection, 30)
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        connection.execute("INSERT INTO files VALUES ('new', '{}', x'')")

    assert said(left(tmp_path, write)) is None


def test_no_log_says_nothing(tmp_path: Path) -> None:
    with closing(Database(tmp_path).open()) as connection:
        written(connection)
    assert said(tmp_path) is None


@pytest.mark.parametrize("bit", [1, 16, 128])
@pytest.mark.parametrize("place", [0, 3, 8, 17, 23, 27, 32, 36, 41, 47, 50, 60, 3000])
def test_a_bit_before_what_was_committed_is_told(tmp_path: Path, place: int, bit: int) -> None:
    """In the head, or in the head or page of the first frame."""
    directory = left(tmp_path, written)
    altered(directory, place, bit)
    assert said(directory) == DAMAGED


@pytest.mark.parametrize("place", [9, 18, 1000])
def test_a_bit_in_the_last_transaction_may_be_its_end(tmp_path: Path, place: int) -> None:
    """A process that was killed between two writes has left the same."""
    directory = left(tmp_path, written)
    altered(directory, (directory / "state.db-wal").stat().st_size - _FRAME + place)
    assert said(directory) == TORN


def test_whoever_only_reads_leaves_the_log_of_who_was_killed(tmp_path: Path) -> None:
    directory = left(tmp_path, written)
    log = Database(directory).log
    before = log.read_bytes()
    with closing(Database(directory).connect_reading()) as connection:
        assert connection.execute("SELECT count(*) FROM files").fetchone() == (WRITES,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM files")
    assert log.read_bytes() == before
