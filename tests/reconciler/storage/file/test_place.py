"""Whose a state directory is, and whether it is still the one that was opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import MachineError
from reconciler.storage.file.place import LOCK_NAME, Place


def replaced(directory: Path) -> None:
    directory.rename(directory.with_name("before"))
    directory.mkdir()


def file_replaced(directory: Path) -> None:
    (directory / "new").write_text("two")
    (directory / "new").rename(directory / "state")


MOVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "the directory is gone": (lambda place: place.rename(place.with_name("before")), "No such"),
    "another directory": (replaced, "was replaced by another directory"),
    "the file is gone": (lambda place: (place / "state").unlink(), "No such file"),
    "another file": (file_replaced, "state was replaced by another file"),
}


@pytest.mark.parametrize("move", MOVES)
def test_what_is_open_is_not_what_a_start_would_find(tmp_path: Path, move: str) -> None:
    directory = tmp_path / "state"
    place = Place(directory)
    (directory / "state").write_text("one")
    place.remember([directory / "state"])
    assert place.moved() is None
    (directory / "state").write_text("longer than before")
    (directory / "another").write_text("")
    assert place.moved() is None, "it is the same file"
    make, told = MOVES[move]
    make(directory)
    reason = place.moved()
    assert reason is not None
    assert told in reason
    assert str(directory) in reason
    # It can be taken again, and what is remembered then is what counts.
    place.take()
    (directory / "state").write_text("three")
    place.remember([directory / "state"])
    assert place.moved() is None
    place.close()


def test_a_directory_has_one_owner_who_is_named(tmp_path: Path) -> None:
    first = Place(tmp_path)
    with pytest.raises(MachineError, match=r"another daemon \(process \d+\) uses"):
        Place(tmp_path)
    first.close()
    Place(tmp_path).close()


def test_a_lock_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / LOCK_NAME).unlink()
    place.take()
    with pytest.raises(MachineError, match="another daemon"):
        Place(tmp_path)
    place.close()


def test_whether_files_were_open_at_the_end_is_known_by_the_next(tmp_path: Path) -> None:
    def left_open() -> bool:
        place = Place(tmp_path)
        place.close()
        return place.was_left_open

    assert not left_open()
    place = Place(tmp_path)
    place.mark(is_open=True)
    with pytest.raises(MachineError, match=r"another daemon \(process \d+\) uses"):
        Place(tmp_path)
    place.close()
    assert left_open()
    # Said once, by whoever marks it anew.
    assert not left_open()
    place = Place(tmp_path)
    place.mark(is_open=True)
    place.mark(is_open=False)
    place.close()
    assert not left_open()
