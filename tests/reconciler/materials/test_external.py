"""Files outside of the repository: what is noticed, whatever way it comes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from reconciler.materials import external
from reconciler.materials.external import ExternalFiles, signature_of


def digest(content: bytes) -> frozenset[str]:
    return frozenset({hashlib.sha256(content).hexdigest()})


def look(files: ExternalFiles, running: dict[str, frozenset[str]]) -> bool:
    return asyncio.run(files.look(running))


def wanted_has_come(files: ExternalFiles) -> bool:
    return asyncio.run(files.wanted_has_come())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(b"one")
    return path


def test_what_runs_is_nothing_new(key: Path) -> None:
    files = ExternalFiles()
    assert not look(files, {str(key): digest(b"one")})
    os.utime(key)
    assert not look(files, {str(key): digest(b"one")}), "touched is not changed"
    assert files.differing == frozenset()


def test_a_file_that_changed_while_nobody_looked(key: Path) -> None:
    """Before a restart, or between its being read for a commit and the first look."""
    files = ExternalFiles()
    assert look(files, {str(key): digest(b"another")})
    assert files.differing == {str(key)}


@pytest.mark.parametrize("way", ["in place", "rename", "link", "directory link", "gone"])
def test_every_way_to_change_a_file(tmp_path: Path, way: str) -> None:
    for name, content in (("1", b"one"), ("2", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key.pem").write_bytes(content)
    live = tmp_path / "live"
    path = tmp_path / "key.pem"
    if way == "directory link":
        live.symlink_to("1")
        path = live / "key.pem"
    elif way == "link":
        path.symlink_to("1/key.pem")
    else:
        path.write_bytes(b"one")
    files, held = ExternalFiles(), {str(path): digest(b"one")}
    assert not look(files, held)
    new = tmp_path / "new"
    match way:
        case "in place":
            path.write_bytes(b"two!")
        case "rename":
            new.write_bytes(b"two")
            new.rename(path)
        case "link":
            new.symlink_to("2/key.pem")
            new.rename(path)
        case "directory link":
            new.symlink_to("2")
            new.rename(live)
        case "gone":
            path.unlink()
    assert look(files, held)
    assert files.differing == {str(path)}
    assert not look(files, held), "told once"
    assert files.differing == {str(path)}, "and it still differs"


def test_a_content_that_runs_now_differs_no_more(key: Path) -> None:
    files = ExternalFiles()
    look(files, {str(key): digest(b"old")})
    assert not look(files, {str(key): digest(b"one")})
    assert files.differing == frozenset()


def test_a_content_that_is_put_back_differs_no_more(key: Path) -> None:
    files, held = ExternalFiles(), {str(key): digest(b"one")}
    look(files, held)
    key.write_bytes(b"broken")
    assert look(files, held)
    key.write_bytes(b"one")
    assert not look(files, held)
    assert files.differing == frozenset()


def test_a_file_that_is_waited_for_is_nothing_new_before_it_is_there(tmp_path: Path) -> None:
    files, path = ExternalFiles(), tmp_path / "ordered.pem"
    assert not look(files, {str(path): frozenset()})
    assert files.told() == []
    path.write_bytes(b"one")
    assert look(files, {str(path): frozenset()})


def test_a_file_that_nobody_names_any_more(key: Path) -> None:
    files = ExternalFiles()
    look(files, {str(key): digest(b"old")})
    assert not look(files, {})
    assert (files.differing, files.directories()) == (frozenset(), {})


def test_one_of_two_entities_holds_an_older_content(key: Path) -> None:
    files = ExternalFiles()
    assert look(files, {str(key): digest(b"one") | digest(b"old")})


def test_what_a_refused_commit_names_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "late.pem"
    files = ExternalFiles()
    files.want({str(path): signature_of(str(path))})
    assert not wanted_has_come(files)
    look(files, {})
    assert files.directories() == {tmp_path: tmp_path.stat().st_ino}
    path.write_bytes(b"here")
    assert wanted_has_come(files)
    assert not wanted_has_come(files), "told once"


def test_a_file_that_may_be_read_now_is_looked_at_again(key: Path) -> None:
    """Nothing but its mode is another: it was put there with the rights of somebody else."""
    key.chmod(0)
    files = ExternalFiles()
    files.want({str(key): signature_of(str(key))})
    assert not wanted_has_come(files)
    key.chmod(0o600)
    assert wanted_has_come(files)


def test_why_a_file_is_not_taken_over_is_told_until_it_is(tmp_path: Path) -> None:
    broken, gone, other = (tmp_path / name for name in ("broken", "gone", "other"))
    held = {str(path): digest(b"one") for path in (broken, gone, other)}
    for path in (broken, other):
        path.write_bytes(b"two")
    files = ExternalFiles()
    assert look(files, held)
    files.refused({str(broken), str(gone)}, "no PEM")
    for _ in range(2):
        assert files.told() == [
            f"{broken}: what is served is not what the file has now: no PEM",
            f"{gone}: what it held before is served: No such file or directory",
            f"{other}: what is served is not what the file has now",
        ]
        assert not look(files, held)
    broken.write_bytes(b"three")
    assert look(files, held)
    assert files.told()[0] == f"{broken}: what is served is not what the file has now"
    broken.write_bytes(b"one")
    look(files, held)
    assert len(files.told()) == 2


def test_so_many_files_are_told(tmp_path: Path) -> None:
    files = ExternalFiles()
    look(files, {str(tmp_path / f"{number:02}"): digest(b"one") for number in range(25)})
    assert len(files.told()) == 21
    assert files.told()[-1] == "5 more files are not taken over"


def test_directories_that_are_not_there_are_not_watched(tmp_path: Path) -> None:
    files = ExternalFiles()
    look(files, {str(tmp_path / "nowhere" / "key.pem"): digest(b"one")})
    files.want({str(tmp_path / "nor-here" / "key.pem"): None})
    look(files, {})
    assert files.directories() == {}


def test_very_many_are_looked_at_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that takes long comes the more seldom, but at once where the state is another."""
    for number in range(600):
        (tmp_path / f"{number}").write_bytes(b"one")
    held = {str(tmp_path / f"{number}"): digest(b"one") for number in range(600)}
    files = ExternalFiles()
    monkeypatch.setattr(external, "_PAUSE_SHARE", 1e6)
    assert not look(files, held)
    (tmp_path / "7").write_bytes(b"another")
    assert not look(files, held)
    monkeypatch.setattr(external, "_PAUSE_SHARE", 20.0)
    held = dict(held)
    assert look(files, held), "another state"
    (tmp_path / "8").write_bytes(b"another")
    deadline = time.monotonic() + 60
    while not look(files, held):
        assert time.monotonic() < deadline
    assert files.differing == {str(tmp_path / name) for name in ("7", "8")}
