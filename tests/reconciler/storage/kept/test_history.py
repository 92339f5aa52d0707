from __future__ import annotations

import asyncio
import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.storage.kept import history as module
from reconciler.storage.kept.history import History, HistoryRow
from reconciler.storage.store import Store
from schemas.messages.results import HistoryEntry


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


def newest(history: History, limit: int = 1000) -> list[HistoryEntry]:
    return history.answer(limit)["entries"]


def commits(history: History, limit: int = 1000) -> list[str]:
    return [each["commit"] for each in newest(history, limit)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state")
    yield made
    made.close()


def again(store: Store) -> Store:
    store.close()
    return Store(store.place.directory)


def test_the_order_is_that_of_events_whatever_the_clock_says(store: Store) -> None:
    history = History(store)
    for at, commit, drained in (
        (12, "a", None),
        (11, "b", None),
        (3, "b", ["x/1"]),
        (2, "c", None),
    ):
        made = entry(commit)
        made["at"] = f"2026-01-{at:02}T00:00:00.000+00:00"
        if drained:
            made["outcome"], made["backends"] = "drained", drained
        history.add(made)
    answer = history.answer(2)
    assert [(each["commit"], each["position"]) for each in answer["entries"]] == [
        ("c", 0),
        ("b", 2),
    ]
    assert [(each["backends"], each["position"]) for each in answer["drains"]] == [(["x/1"], 1)]


def test_newest_first_and_after_a_restart(store: Store) -> None:
    history = History(store)
    for number in range(5):
        history.add(entry(f"c{number}"))
    for each in (history, History(after := again(store))):
        if each is history:
            continue
        assert commits(each, 3) == ["c4", "c3", "c2"]
        assert newest(each, 0) == []
        found = each.find("c1")
        assert found is not None
        assert found["subject"] == "ü"
        assert each.find("other") is None
    after.close()


def test_the_same_refusal_is_told_once(store: Store) -> None:
    history = History(store)
    history.add(entry("a", "refused", "because"))
    history.add(entry("a", "refused", "because"))
    after = again(store)
    history = History(after)
    history.add(entry("a", "refused", "because"))
    history.add(entry("a", "refused", "another reason"))
    assert len(newest(history)) == 2
    after.close()


def test_what_is_told_of_drains_stands_beside(store: Store) -> None:
    history = History(store)
    history.add(entry("a"))
    drained = entry("a", "drained")
    drained["backends"] = ["web/b0"]
    history.add(drained)
    found = history.answer(9)
    assert [each["outcome"] for each in found["entries"]] == ["applied"]
    assert [each["backends"] for each in found["drains"]] == [["web/b0"]]
    assert history.find("a") == entry("a")


def test_a_flipped_bit_is_no_other_story(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(store)
    for commit in ("aaa", "bbb"):
        history.add(entry(commit))
    with sqlite3.connect(store.place.directory / "state.db") as connection:
        connection.execute("UPDATE history SET entry = replace(entry, 'aaa', 'aac')")
    assert commits(history) == ["bbb"]
    assert history.find("aaa") is None
    assert "an entry of the history is not what was written commit=aaa" in capsys.readouterr().err


@pytest.mark.parametrize("value", [b"\xff\xfe", 7, 1.5, "", "[]", "{}"])
def test_a_row_of_anything_is_no_story(store: Store, value: object) -> None:
    history = History(store)
    history.add(entry("aaa"))
    with sqlite3.connect(store.place.directory / "state.db") as connection:
        connection.execute("UPDATE history SET entry = ?", (value,))
    history.add(entry("bbb"))
    assert commits(history) == ["bbb"]


def test_it_does_not_grow_without_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_MAX", 2000)
    history = History(store)
    for number in range(50):
        history.add(entry(f"c{number}"))
    assert sum(len(json.dumps(each)) for each in newest(history)) < 2500
    assert commits(history)[:2] == ["c49", "c48"]
    monkeypatch.setattr(module, "BYTES_MAX", 1 << 20)
    monkeypatch.setattr(module, "ENTRIES_MAX", 10)
    for number in range(50):
        history.add(entry(f"d{number}"))
    assert commits(history) == [f"d{number}" for number in range(49, 39, -1)]


def test_a_disk_that_is_full_costs_nothing_but_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(store)
    history.add(entry("a"))
    record = store.record

    def full(_: HistoryRow, __: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "record", full)
    large = entry("b")
    large["changes"] = [{"x": "y"}]
    for each in (large, entry("c", "refused", "r"), entry("c", "refused", "r")):
        history.add(each)
    assert commits(history) == ["c", "b", "a"]
    assert commits(history, 1) == ["c"]
    found = history.find("b")
    assert found is not None
    assert found["changes"] == []
    monkeypatch.setattr(store, "record", record)
    history.add(entry("d"))
    assert commits(History(store)) == ["d", "c", "b", "a"], "they are written when it goes again"


def test_what_a_thread_writes_is_there_when_it_is_settled(store: Store) -> None:
    history = History(store)

    async def run() -> None:
        store.write_apart()
        history.add(entry("a"))
        assert commits(history) == []
        await store.settled()
        assert commits(history) == ["a"]

    asyncio.run(run())


def test_what_a_thread_could_not_write_is_written_when_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(store)

    def full() -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        store.write_apart()
        with monkeypatch.context() as disk:
            disk.setattr(store._opened, "writing", full)
            history.add(entry("a"))
            store.keep("name", "text")
            await store.settled()
        history.write()
        assert store.kept("name") is None
        await store.settled()
        assert commits(history) == ["a"]

    asyncio.run(run())


def test_commits_of_many_changes_do_not_stay_in_memory(store: Store) -> None:
    change = {"action": "update", "kind": "backend", "name": "b", "fields": {"x": "y" * 2000}}
    tracemalloc.start()
    try:
        history = History(store)
        for number in range(150):
            large = entry(f"c{number}")
            large["change_count"] = 5000
            large["changes"] = [dict(change) for _ in range(100)]
            history.add(large)
        del large
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
    found = newest(history)
    assert [one["commit"] for one in found[:2]] == ["c149", "c148"]
    assert len(found) == 150
    assert {one["change_count"] for one in found} == {5000}
    assert len(found[0]["changes"]) >= 50
    assert len(json.dumps(found)) < 2 * module.ANSWER_BYTES_MAX, "an answer is bounded, too"


def test_texts_are_cut(store: Store) -> None:
    history = History(store)
    long = entry("a", "refused", "because " * 100_000)
    long["subject"] = "s" * 1_000_000
    history.add(long)
    [found] = newest(history)
    assert len(found["message"]) == len(found["subject"]) == 4000
    history.add(long)
    assert len(newest(history)) == 1


def test_it_outlives_a_database_that_is_damaged(store: Store) -> None:
    history = History(store)
    for commit in ("aaa", "bbb", "ccc"):
        history.add(entry(commit))
    store.close()
    path = store.place.directory / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE running SET commit_id = 'other'")
        connection.execute("UPDATE history SET entry = replace(entry, 'bbb', 'bbc')")
    after = Store(store.place.directory)
    assert any("damaged" in note for note in after.notes.told())
    assert commits(History(after)) == ["ccc", "aaa"]
    after.close()


def test_it_outlives_a_directory_that_is_taken_away(store: Store, tmp_path: Path) -> None:
    history = History(store)
    history.add(entry("a"))
    store.place.directory.rename(tmp_path / "away")
    history.add(entry("b"))
    store.look()
    assert commits(history) == ["b", "a"]
    after = again(store)
    assert commits(History(after)) == ["b", "a"]
    after.close()


def test_a_database_of_the_form_before_gets_one(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    from reconciler.storage.file import database

    with sqlite3.connect(directory / "state.db") as connection:
        connection.executescript(database._FIRST)
        connection.execute("INSERT INTO files VALUES ('a.yaml', '[]')")
        connection.execute("PRAGMA user_version = 1")
    store = Store(directory)
    assert store.notes.told() == []
    assert store.running.state.marks("a.yaml") == {}
    history = History(store)
    history.add(entry("a"))
    assert commits(history) == ["a"]
    store.close()
