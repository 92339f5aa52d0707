"""What was parsed is known by the content of a file, as long as it is what was written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.storage.kept.parsed import ParsedBlobs, remove

ONE, TWO, GONE = b"\1" * 20, b"\2" * 20, b"\3" * 20


def opened(tmp_path: Path, form: str = "1") -> ParsedBlobs:
    return ParsedBlobs(tmp_path / "parsed.db", form)


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as first:
        first.keep([(ONE, "one"), (TWO, "two")])
    with closing(opened(tmp_path)) as again:
        assert again.find([TWO, GONE, ONE]) == {ONE: "one", TWO: "two"}
        assert again.find([]) == {}
        many = [number.to_bytes(20, "big") for number in range(2000)]
        assert again.find([*many, ONE]) == {ONE: "one"}


def test_another_form_knows_nothing(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as first:
        first.keep([(ONE, "one")])
    with closing(opened(tmp_path, "2")) as other:
        assert other.find([ONE]) == {}


def test_what_is_not_as_written_is_not_found(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as first:
        first.keep([(ONE, "one"), (TWO, "two")])
    with closing(sqlite3.connect(tmp_path / "parsed.db")) as connection:
        connection.execute("UPDATE parsed SET found = 'won' WHERE blob = ?", (ONE,))
        connection.commit()
    with closing(opened(tmp_path)) as again:
        assert again.find([ONE, TWO]) == {TWO: "two"}


def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "parsed.db").write_bytes(b"nothing of ours" * 1000)
    with closing(opened(tmp_path)) as anew:
        anew.keep([(ONE, "one")])
        assert anew.find([ONE]) == {ONE: "one"}


def make_directory(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def make_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere/at/all")


@pytest.mark.parametrize("make", [make_directory, make_link, os.mkfifo])
def test_what_is_no_file_is_begun_anew(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "parsed.db")
    with closing(opened(tmp_path)) as anew:
        anew.keep([(ONE, "one")])
        assert anew.find([ONE]) == {ONE: "one"}
    assert (tmp_path / "parsed.db.damaged-1/inside").is_dir() == (make is make_directory)


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as first:
        first.keep([(ONE, "one")])
    remove(tmp_path / "parsed.db")
    assert not list(tmp_path.iterdir())
    remove(tmp_path / "parsed.db")
