from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from reconciler.storage import history as module
from reconciler.storage.history import History
from schemas.control import HistoryEntry


def entry(commit: str, outcome: str = "applied", message: str | None = None) -> HistoryEntry:
    made: HistoryEntry = {
        "at": "2026-01-01T00:00:00.000+00:00",
        "commit": commit,
        "outcome": outcome,  # type: ignore[typeddict-item]
        "generation": 1,
        "duration_ms": 1.5,
        "author": "A <a@b>",
        "subject": "ü",
        "change_count": 0,
        "changes": [],
    }
    if message is not None:
        made["message"] = message
    return made


def test_newest_first_and_after_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for number in range(5):
        history.add(entry(f"c{number}"))
    for each in (history, History(tmp_path / "history.jsonl")):
        assert [found["commit"] for found in each.newest(3)] == ["c4", "c3", "c2"]
        assert each.newest(0) == []
    found = history.find("c1")
    assert found is not None
    assert found["subject"] == "ü"
    assert history.find("other") is None


def test_the_same_refusal_is_told_once(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add(entry("a", "refused", "because"))
    history.add(entry("a", "refused", "because"))
    history.add(entry("a", "refused", "another reason"))
    assert len(history.newest(10)) == 2


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    history.add(entry("a"))
    with path.open("a") as file:
        file.write('{"at": "2026')
    again = History(path)
    again.add(entry("b"))
    assert [found["commit"] for found in History(path).newest(9)] == ["b", "a"]


def test_a_flipped_bit_is_no_other_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    for commit in ("aaa", "bbb"):
        history.add(entry(commit))
    path.write_bytes(path.read_bytes().replace(b"aaa", b"aac"))
    assert [found["commit"] for found in History(path).newest(9)] == ["bbb"]
    assert "lines of the history are not what was written count=1" in capsys.readouterr().err


def test_the_file_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FILE_BYTES_MAX", 1000)
    path = tmp_path / "history.jsonl"
    history = History(path)
    for number in range(50):
        history.add(entry(f"c{number}"))
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 2500
    assert History(path).newest(1)[0]["commit"] == "c49"


def test_a_disk_that_is_full_costs_a_line_and_nothing_else(tmp_path: Path) -> None:
    history = History(tmp_path / "gone" / "history.jsonl")
    history.add(entry("a"))
    assert history.newest(1)[0]["commit"] == "a"


def test_nobody_else_may_read_it_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        History(tmp_path / "history.jsonl").add(entry("a"))
    finally:
        os.umask(before)
    assert (tmp_path / "history.jsonl").stat().st_mode & 0o777 == 0o600


def test_commits_of_many_changes_do_not_stay_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    change = {"action": "update", "kind": "backend", "name": "b", "fields": {"x": "y" * 2000}}
    tracemalloc.start()
    try:
        history = History(path)
        for number in range(150):
            large = entry(f"c{number}")
            large["change_count"] = 5000
            large["changes"] = [dict(change) for _ in range(100)]
            history.add(large)
        del large
        held, _ = tracemalloc.get_traced_memory()
        again = History(path)
        with_both, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
    assert with_both < 1_000_000
    longest = max(map(len, path.read_bytes().splitlines(keepends=True)))
    assert 100_000 < longest <= module.ENTRY_BYTES_MAX
    for each in (history, again):
        found = each.newest(1000)
        assert [one["commit"] for one in found[:2]] == ["c149", "c148"]
        assert len(found) > 20, "as many as two files hold"
        assert {one["change_count"] for one in found} == {5000}
        assert len(found[0]["changes"]) >= 50
        assert len(json.dumps(found)) < 2 * module.ANSWER_BYTES_MAX, "an answer is bounded, too"


def test_texts_are_cut(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    long = entry("a", "refused", "because " * 100_000)
    long["subject"] = "s" * 1_000_000
    history.add(long)
    [found] = history.newest(1)
    assert len(found["message"]) == len(found["subject"]) == 4000
    history.add(long)
    assert len(history.newest(9)) == 1


def test_a_file_that_was_taken_away_is_begun_anew_and_what_was_in_it_is_told(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    history.add(entry("a"))
    path.unlink()
    history.add(entry("b"))
    assert [found["commit"] for found in history.newest(9)] == ["b", "a"]
    assert path.read_bytes().count(b"\n") == 1
    path.unlink()
    history.write()
    assert path.stat().st_mode & 0o777 == 0o600
    history.add(entry("c"))
    for each in (history, History(path)):
        assert [found["commit"] for found in each.newest(9)] == ["c", "b", "a"]


def test_one_that_everybody_could_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    History(path).add(entry("a"))
    path.chmod(0o644)
    History(path).add(entry("b"))
    assert path.stat().st_mode & 0o777 == 0o600
