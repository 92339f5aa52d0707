from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.source.git.quarantine import object_directories

LIST = "GIT_ALTERNATE_OBJECT_DIRECTORIES"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH", LIST):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_named() -> None:
    assert list(object_directories()) == []


def test_all_that_is_named_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["incoming", "plain", "with:colon", 'a "b"', "ü"]
    one, two, colon, quote, umlaut = (tmp_path / name for name in names)
    for each in (one, two, colon, quote, umlaut):
        each.mkdir()
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(one))
    monkeypatch.setenv("GIT_QUARANTINE_PATH", str(one))
    escaped = str(quote).replace('"', '\\"')
    octal = str(tmp_path / "\\303\\274")
    listed = f'{two}:"{colon}"::"{escaped}":{tmp_path}/gone:{umlaut}:"{octal}"'
    monkeypatch.setenv(LIST, listed)
    assert list(object_directories()) == [str(each) for each in (one, two, colon, quote, umlaut)]


def test_a_relative_one_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "objects").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "objects")
    assert list(object_directories()) == [str(tmp_path / "objects")]


def test_nonsense_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ('"', '"a', ":::", '"\\', "\n"):
        monkeypatch.setenv(LIST, text)
        assert list(object_directories()) == []
