"""Directories for a state that cannot be at home: made where there is room, and never left."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from reconciler.storage.file import stand_in
from reconciler.storage.file.stand_in import Elsewhere, make_elsewhere, remove_abandoned


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory, and that of memory beside it."""
    for name in ("temporary", "memory"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(stand_in, "MEMORY", tmp_path / "memory")
    return tmp_path


def test_memory_is_taken_where_the_temporary_directory_is_gone(places: Path) -> None:
    made = make_elsewhere([])
    assert made.path.parent.name == "temporary"
    assert made.path.stat().st_mode & 0o777 == 0o700
    (places / "temporary").rename(places / "away")
    other = make_elsewhere([])
    assert other.path.parent.name == "memory"
    (other.path / "key").write_bytes(b"secret")
    other.remove()
    assert not list((places / "memory").iterdir())


def test_where_there_is_no_place_nothing_is_left(places: Path) -> None:
    for name in ("temporary", "memory"):
        (places / name).rmdir()
    with pytest.raises(FileNotFoundError):
        make_elsewhere([])


def test_what_a_killed_daemon_has_left_goes_and_nothing_else(places: Path) -> None:
    in_use, abandoned = make_elsewhere([]), Elsewhere(places / "memory", 1)
    (abandoned.path / "key").write_bytes(b"secret")
    other = places / "temporary" / "others"
    other.mkdir()
    link = places / "temporary" / "kakehi-state-link"
    link.symlink_to(other)
    # As the kernel does with those of who is killed.
    os.close(abandoned._lock)
    remove_abandoned()
    assert not abandoned.path.exists()
    assert in_use.path.is_dir()
    assert other.is_dir()
    assert link.is_symlink()
