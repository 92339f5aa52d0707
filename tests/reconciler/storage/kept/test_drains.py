from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from reconciler.storage.file.database import FILE_NAME
from reconciler.storage.kept import drains as drains_module
from reconciler.storage.kept.drains import NAME, Drain, Drains, parsed
from reconciler.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def test_drains_survive_a_restart(store: Store) -> None:
    async def first() -> None:
        drains = Drains(store)
        drains.add("shop/b", "alice", None)
        drains.add("shop/a", "bob", 3600)
        drains.stop()

    asyncio.run(first())
    again = Drains(store)
    assert again.names() == ["shop/a", "shop/b"]
    one = again.get("shop/a")
    assert one is not None
    assert one.owner == "bob"
    assert one.expires_at is not None


def test_an_expired_drain_ends_by_itself(store: Store) -> None:
    async def run() -> None:
        told: list[list[str]] = []
        drains = Drains(store, lambda drains: told.append(drains.names()))
        drains.add("shop/a", "", 0.05)
        drains.add("shop/b", "", None)
        await asyncio.sleep(0.3)
        assert told == [["shop/a"], ["shop/a", "shop/b"], ["shop/b"]]
        drains.stop()

    asyncio.run(run())
    assert Drains(store).names() == ["shop/b"]


def test_a_clock_that_jumps_ends_a_drain_soon(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Ahead:
            return cls.fromtimestamp(time.time() + 7200, tz)

    async def run() -> None:
        monkeypatch.setattr(drains_module, "_LOOK_S", 0.05)
        drains = Drains(store)
        drains.add("shop/a", "", 3600)
        monkeypatch.setattr(drains_module, "datetime", Ahead)
        await asyncio.sleep(0.3)
        assert drains.names() == []
        drains.stop()

    asyncio.run(run())


def test_what_expired_while_nobody_looked_ends_at_the_start(store: Store) -> None:
    async def run() -> None:
        drains = Drains(store)
        drains.add("shop/a", "", 0.01)
        drains.stop()
        await asyncio.sleep(0.05)
        again = Drains(store)
        again.schedule()
        assert again.names() == []

    asyncio.run(run())


def test_draining_again_moves_the_expiry_and_not_the_beginning(store: Store) -> None:
    async def run() -> None:
        drains = Drains(store)
        one = drains.add("shop/a", "alice", 10)
        two = drains.add("shop/a", "bob", None)
        assert two.since == one.since
        assert (two.owner, two.expires_at) == ("bob", None)
        assert drains.remove("shop/a")
        assert not drains.remove("shop/a")
        drains.stop()

    asyncio.run(run())


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"backend": "a"}]', "\0"])
def test_a_damaged_file_drains_nothing(store: Store, content: str) -> None:
    store.keep(NAME, content)
    assert Drains(store).names() == []


def test_a_drain_holds_even_when_it_cannot_be_written(store: Store) -> None:
    async def run() -> None:
        drains = Drains(store)
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, former[1]))
        try:
            with pytest.raises(OSError, match=r"full|I/O"):
                drains.add("shop/a", "", None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
        assert drains.names() == ["shop/a"]
        drains.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    "content",
    [
        '[{"backend": "a/b", "owner": "", "since": "", "expires_at": "tomorrow"}]',
        '[{"backend": "a/b", "owner": "", "since": "", "expires_at": "2030-01-01T00:00:00"}]',
        '[{"backend": "a/b", "owner": "", "since": "", "expires_at": 7}]',
        '[{"backend": 7, "owner": "", "since": "", "expires_at": null}]',
        '["a/b"]',
        "7",
    ],
)
def test_drains_that_mean_nothing_are_none(store: Store, content: str) -> None:
    """It is read at the start, before anything follows the repository."""
    store.keep(NAME, content)

    async def run() -> None:
        drains = Drains(store)
        drains.schedule()
        assert drains.names() == []

    asyncio.run(run())


def drained_and_altered(directory: Path, query: str) -> Store:
    """A store opened again, of which somebody has altered the file since a backend was drained."""
    store = Store(directory)

    async def run() -> None:
        drains = Drains(store)
        drains.add("shop/a", "alice", None)
        drains.stop()

    asyncio.run(run())
    store.close()
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as database:
        database.execute(query)
        database.commit()
    return Store(directory)


def test_another_name_by_a_flipped_bit_is_not_drained(tmp_path: Path) -> None:
    query = "UPDATE kept SET text = replace(text, 'shop/a', 'shop/c')"
    with contextlib.closing(drained_and_altered(tmp_path, query)) as store:
        assert Drains(store).names() == []


def test_drains_outlive_a_damaged_state(tmp_path: Path) -> None:
    query = "UPDATE running SET digest = replace(digest, '0', '1')"
    with contextlib.closing(drained_and_altered(tmp_path, query)) as store:
        assert store.notes.told(), "the damage is told"
        assert Drains(store).names() == ["shop/a"]


def test_each_change_has_a_greater_number_whatever_the_clock_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Behind:
            return cls.fromtimestamp(time.time() - 7200, tz)

    drains = Drains(store)
    assert drains.text == ""
    numbers = []
    for clock in (datetime, Behind, datetime):
        monkeypatch.setattr(drains_module, "datetime", clock)
        drains.add("shop/a", "", None)
        numbers.append(parsed(drains.text)[0])
        drains.remove("shop/a")
        numbers.append(parsed(drains.text)[0])
    assert numbers == sorted(set(numbers))
    assert Drains(store).text == drains.text == store.kept(NAME)


def test_a_list_without_a_number_is_of_the_version_before(store: Store) -> None:
    drain = {"backend": "shop/a", "owner": "bob", "since": "", "expires_at": None}
    store.keep(NAME, json.dumps([drain]))
    drains = Drains(store)
    assert drains.names() == ["shop/a"]
    assert parsed(drains.text) == (0, {"shop/a": Drain(**drain)})
