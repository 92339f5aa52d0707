from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.storage.drains import Drains


def test_drains_survive_a_restart(tmp_path: Path) -> None:
    async def first() -> None:
        drains = Drains(tmp_path / "drains.json")
        drains.add("shop/b", "alice", None)
        drains.add("shop/a", "bob", 3600)
        drains.stop()

    asyncio.run(first())
    again = Drains(tmp_path / "drains.json")
    assert again.names() == ["shop/a", "shop/b"]
    one = again.get("shop/a")
    assert one is not None
    assert one.owner == "bob"
    assert one.expires_at is not None


def test_an_expired_drain_ends_by_itself(tmp_path: Path) -> None:
    async def run() -> None:
        told: list[list[str]] = []
        drains = Drains(tmp_path / "drains.json", lambda: told.append(drains.names()))
        drains.add("shop/a", "", 0.05)
        drains.add("shop/b", "", None)
        await asyncio.sleep(0.3)
        assert told == [["shop/a"], ["shop/a", "shop/b"], ["shop/b"]]
        drains.stop()

    asyncio.run(run())
    assert Drains(tmp_path / "drains.json").names() == ["shop/b"]


def test_what_expired_while_nobody_looked_ends_at_the_start(tmp_path: Path) -> None:
    async def run() -> None:
        drains = Drains(tmp_path / "drains.json")
        drains.add("shop/a", "", 0.01)
        drains.stop()
        await asyncio.sleep(0.05)
        again = Drains(tmp_path / "drains.json")
        again.schedule()
        assert again.names() == []

    asyncio.run(run())


def test_draining_again_moves_the_expiry_and_not_the_beginning(tmp_path: Path) -> None:
    async def run() -> None:
        drains = Drains(tmp_path / "drains.json")
        one = drains.add("shop/a", "alice", 10)
        two = drains.add("shop/a", "bob", None)
        assert two.since == one.since
        assert (two.owner, two.expires_at) == ("bob", None)
        assert drains.remove("shop/a")
        assert not drains.remove("shop/a")
        drains.stop()

    asyncio.run(run())


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"backend": "a"}]', "\0"])
def test_a_damaged_file_drains_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "drains.json").write_text(content)
    assert Drains(tmp_path / "drains.json").names() == []


def test_a_drain_holds_even_when_it_cannot_be_written(tmp_path: Path) -> None:
    async def run() -> None:
        drains = Drains(tmp_path / "gone" / "drains.json")
        with pytest.raises(OSError, match="No such file"):
            drains.add("shop/a", "", None)
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
def test_drains_that_mean_nothing_are_none(tmp_path: Path, content: str) -> None:
    """It is read at the start, before anything follows the repository."""
    (tmp_path / "drains.json").write_text(content)

    async def run() -> None:
        drains = Drains(tmp_path / "drains.json")
        drains.schedule()
        assert drains.names() == []

    asyncio.run(run())
