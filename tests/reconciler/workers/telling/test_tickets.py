"""The keys of session tickets: made, rotated, kept, and never left lying open."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.storage.store import Store
from reconciler.workers.telling.tickets import KEY_BYTES, KEYS_MAX, TicketKeeper


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state")
    yield made
    made.close()


def keys(directory: Path) -> list[bytes]:
    content = (directory / "tickets").read_bytes()
    return [content[at : at + KEY_BYTES] for at in range(0, len(content), KEY_BYTES)]


def age(directory: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(directory / "tickets", (then, then))


def test_the_first_key_is_made_at_once(tmp_path: Path, store: Store) -> None:
    assert TicketKeeper(tmp_path, store).rotate_if_due()
    [key] = keys(tmp_path)
    assert len(key) == KEY_BYTES
    assert (tmp_path / "tickets").stat().st_mode & 0o777 == 0o600
    # It is there for the next daemon.
    assert not TicketKeeper(tmp_path, store).rotate_if_due()
    assert keys(tmp_path) == [key]


def test_a_new_key_comes_first_and_old_ones_go(tmp_path: Path, store: Store) -> None:
    made = TicketKeeper(tmp_path, store, rotation_s=100)
    seen: list[bytes] = []
    for number in range(1, KEYS_MAX + 3):
        assert made.rotate_if_due()
        found = keys(tmp_path)
        seen.insert(0, found[0])
        assert found == seen[:KEYS_MAX]
        assert len(set(seen)) == number
        age(tmp_path, 99)
        assert not made.rotate_if_due()
        age(tmp_path, 101)


def test_a_clock_that_was_set_back_keeps_no_key_alive(tmp_path: Path, store: Store) -> None:
    made = TicketKeeper(tmp_path, store, rotation_s=100)
    made.rotate_if_due()
    age(tmp_path, -3600)
    assert made.rotate_if_due()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * KEY_BYTES, b"x" * (KEY_BYTES + 1)])
def test_a_damaged_file_is_replaced(
    tmp_path: Path, store: Store, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    TicketKeeper(tmp_path, store).rotate_if_due()
    before = keys(tmp_path)
    (tmp_path / "tickets").write_bytes(content)
    TicketKeeper(tmp_path, store)
    told = capsys.readouterr().err
    assert "keys for TLS tickets are made anew" in told
    assert "reason='they are damaged" in told or 'reason="they are damaged' in told
    [key] = keys(tmp_path)
    assert key not in (*before, content)


def test_keys_whose_sum_was_lost_are_not_called_damaged(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody can tell them from zeros, which everybody knows: they are made anew all the same."""
    TicketKeeper(tmp_path, store).rotate_if_due()
    before = keys(tmp_path)
    (tmp_path / "other").mkdir()
    with closing(Store(tmp_path / "other")) as other:
        TicketKeeper(tmp_path, other)
        [key] = keys(tmp_path)
        assert other.kept("tickets") is not None
    told = capsys.readouterr().err
    assert "their sum is not in the state database any more" in told
    assert "damaged" not in told
    assert key not in before


def test_rotation_is_told(tmp_path: Path, store: Store) -> None:
    told: list[int] = []

    async def run() -> None:
        enough = asyncio.Event()

        def changed() -> None:
            told.append(len(keys(tmp_path)))
            if len(told) > KEYS_MAX:
                enough.set()

        task = asyncio.create_task(TicketKeeper(tmp_path, store, rotation_s=0.05).run(changed))
        await enough.wait()
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert told[: KEYS_MAX + 1] == [*range(1, KEYS_MAX + 1), KEYS_MAX]


def test_a_directory_that_cannot_be_written_is_no_end(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        made = TicketKeeper(tmp_path / "gone", store)
        task = asyncio.create_task(made.run(lambda: None))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()

    asyncio.run(run())
    assert "no new keys for TLS tickets" in capsys.readouterr().err
