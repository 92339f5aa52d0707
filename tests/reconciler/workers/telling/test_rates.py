"""The table of rates: one file, found again, and made anew where it is none of ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.workers.telling.rates import TABLE_BYTES, RateTableKeeper


def inode(directory: Path) -> int:
    """Which file a daemon that starts now hands out; written and read as its workers would."""
    with closing(RateTableKeeper(directory)) as table:
        file = table.descriptor()
        assert file is not None
        assert file == table.descriptor()
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
    with closing(RateTableKeeper(tmp_path)) as former:
        held = former.descriptor()
        assert held is not None
        change(tmp_path / "rates")
        assert inode(tmp_path) != os.fstat(held).st_ino


def test_two_have_other_seeds(tmp_path: Path) -> None:
    seeds = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        inode(tmp_path / name)
        seeds.add((tmp_path / name / "rates").read_bytes()[16:48])
    assert len(seeds) == 2


def test_without_it_nothing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(RateTableKeeper(tmp_path / "nothing")) as table:
        assert table.descriptor() is None
        (tmp_path / "nothing").mkdir()
        assert table.descriptor() is not None
    (tmp_path / "one" / "rates" / "full").mkdir(parents=True)
    with closing(RateTableKeeper(tmp_path / "one")) as table:
        assert table.descriptor() is None
    assert capsys.readouterr().err.count("each worker counts rates by itself") == 2
