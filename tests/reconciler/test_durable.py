"""What has to be on the disk when a call returns: the file and the names that lead to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler import durable
from reconciler.storage.file.database import Database
from reconciler.storage.file.place import Place
from reconciler.storage.kept.contents import MaterialStore


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories that were synced, in order; the real call is made."""
    found: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            found.append(path)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_every_directory_that_is_made_is_in_the_one_above_it(
    tmp_path: Path, synced: list[Path]
) -> None:
    durable.make_directory(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    durable.make_directory(tmp_path / "a" / "b" / "c")
    assert len(synced) == 3


def test_a_link_that_leads_nowhere_is_set_aside(tmp_path: Path) -> None:
    own = tmp_path / "issuers"
    own.symlink_to(tmp_path / "nowhere")
    durable.make_own_directory(own)
    assert own.is_dir() and not own.is_symlink()
    assert (tmp_path / "issuers.damaged-1").is_symlink()


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        durable.make_directory(tmp_path / "a" / "b")


def test_a_rename_is_durable_and_a_replacement_is_whole(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "file"
    durable.replace_durably(path, b"one")
    durable.replace_durably(path, b"two")
    assert synced == [tmp_path, tmp_path]
    durable.rename_durably(path, tmp_path / "other")
    assert synced == [tmp_path] * 3
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other").read_bytes() == b"two"


def test_what_the_state_directory_is_made_of_stays(tmp_path: Path, synced: list[Path]) -> None:
    directory = tmp_path / "var" / "state"
    place = Place(directory)
    try:
        assert {tmp_path, tmp_path / "var"} <= set(synced)
        for make in (
            lambda: MaterialStore(directory, lambda _: False),
            lambda: Database(directory).open().close(),
            lambda: Database(directory).set_aside(),
        ):
            synced.clear()
            make()
            assert directory in synced
    finally:
        place.close()
