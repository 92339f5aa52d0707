"""A copy in the place of whatever is there, and what is set aside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.storage.file.database import FILE_NAME, DamagedError, Database


def written(directory: Path, digest: str) -> sqlite3.Connection:
    """A database with a header, open."""
    directory.mkdir(exist_ok=True)
    connection = Database(directory).open()
    connection.execute(
        "INSERT INTO running VALUES (1, 7, ?, 'c', 't', NULL, 3, 'language', 'sum')", (digest,)
    )
    return connection


def digest_in(directory: Path) -> str:
    with closing(Database(directory).connect()) as connection:
        found: str = connection.execute("SELECT digest FROM running").fetchone()[0]
    return found


@pytest.mark.parametrize("there", ["nothing", "a database", "a WAL of another", "a directory"])
def test_a_copy_takes_the_place_of_what_is_there(tmp_path: Path, there: str) -> None:
    source = written(tmp_path / "source", "wanted")
    target = tmp_path / "target"
    target.mkdir()
    if there == "a database":
        written(target, "other").close()
    elif there == "a WAL of another":
        open_still = written(target, "other")
        assert (target / f"{FILE_NAME}-wal").stat().st_size > 0
        (target / FILE_NAME).unlink()
    elif there == "a directory":
        (target / FILE_NAME / "full").mkdir(parents=True)
    Database(target).replace(source)
    assert digest_in(target) == "wanted"
    assert (target / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert not (target / f"{FILE_NAME}.new").exists()
    if there == "a directory":
        assert (target / f"{FILE_NAME}.damaged-1" / "full").is_dir()
    if there == "a WAL of another":
        open_still.close()
    # The source goes on, and is no longer what was copied.
    source.execute("UPDATE running SET digest = 'later'")
    assert digest_in(target) == "wanted"
    source.close()


def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    source = written(tmp_path / "source", "wanted")
    written(tmp_path / "target", "kept").close()
    source.close()
    with pytest.raises(DamagedError):
        Database(tmp_path / "target").replace(source)
    assert digest_in(tmp_path / "target") == "kept"
    assert not (tmp_path / "target" / f"{FILE_NAME}.new").exists()


def test_what_is_set_aside_has_a_name_of_its_own(tmp_path: Path) -> None:
    names = []
    for number in range(3):
        connection = written(tmp_path, str(number))
        names.append(Database(tmp_path).set_aside())
        connection.close()
    assert names == [f"{FILE_NAME}.damaged-{number}" for number in (1, 2, 3)]
    assert not (tmp_path / FILE_NAME).exists()
