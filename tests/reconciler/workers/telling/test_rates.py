"""The table of rates: one file, found again, and made anew where it is none of ours."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.workers.telling.rates import RATES_BYTES, TABLE_BYTES, RateTableKeeper


def inode(directory: Path) -> int:
    """Which file a daemon that starts now hands out; written and read as its workers would."""
    with closing(RateTableKeeper(directory)) as table, table.opened() as file:
        assert file is not None
        os.pwrite(file, b"x", TABLE_BYTES - 1)
        assert os.fstat(file).st_size == TABLE_BYTES
        return os.fstat(file).st_ino


def test_the_next_daemon_finds_it_again(tmp_path: Path) -> None:
    found = inode(tmp_path)
    assert (tmp_path / "rates").stat().st_mode & 0o777 == 0o600
    assert inode(tmp_path) == found
    assert os.listdir(tmp_path) == ["rates"]


def _shorten(path: Path) -> None:
    os.truncate(path, 4096)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _write(offset: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), b"?", offset)

    return write


@pytest.mark.parametrize(
    "change",
    [_shorten, _write(0), _write(50), _empty],
    ids=["short", "another version", "another boot", "empty"],
)
def test_one_that_is_not_ours_is_made_anew(tmp_path: Path, change: Callable[[Path], None]) -> None:
    with closing(RateTableKeeper(tmp_path)) as former, former.opened() as held:
        assert held is not None
        change(tmp_path / "rates")
        assert inode(tmp_path) != os.fstat(held).st_ino


def _locks(file: int, at: int) -> bool:
    """Whether a byte is locked by whoever has opened the file so."""
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
    except BlockingIOError:
        return False
    return True


def test_each_worker_gets_one_whose_locks_are_its_own(tmp_path: Path) -> None:
    with closing(RateTableKeeper(tmp_path)) as table, table.opened() as one:
        assert one is not None
        assert _locks(one, 0)
        with table.opened() as other:
            assert other is not None
            assert not _locks(other, 0)
            assert _locks(other, 1)
        (tmp_path / "rates").unlink()
        with table.opened() as deleted:
            assert deleted is not None
            assert os.path.sameopenfile(deleted, one)
            assert not _locks(deleted, 0)
            assert _locks(deleted, 1), "the other one has closed it"


def test_one_of_a_version_that_counted_rates_alone_goes_on(tmp_path: Path) -> None:
    found = inode(tmp_path)
    file = tmp_path / "rates"
    os.truncate(file, RATES_BYTES)
    before = file.read_bytes()
    assert inode(tmp_path) == found
    assert file.read_bytes()[:RATES_BYTES] == before


def test_columns_that_nobody_has_taken_take_no_room(tmp_path: Path) -> None:
    with closing(RateTableKeeper(tmp_path)) as table, table.opened() as file:
        assert file is not None
        found = os.fstat(file)
        assert found.st_size == TABLE_BYTES
        assert RATES_BYTES < found.st_blocks * 512 <= RATES_BYTES + 3 * 4096


def test_two_have_other_seeds(tmp_path: Path) -> None:
    seeds = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        inode(tmp_path / name)
        seeds.add((tmp_path / name / "rates").read_bytes()[16:48])
    assert len(seeds) == 2


def test_without_it_nothing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(RateTableKeeper(tmp_path / "nothing")) as table:
        with table.opened() as file:
            assert file is None
        (tmp_path / "nothing").mkdir()
        with table.opened() as file:
            assert file is not None
    (tmp_path / "one" / "rates" / "full").mkdir(parents=True)
    with closing(RateTableKeeper(tmp_path / "one")) as table, table.opened() as file:
        assert file is None
    assert capsys.readouterr().err.count("each worker counts rates by itself") == 2
