"""A newcomer takes a state in while others go on: real workers, a store, no repository."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.storage.file.database import FILE_NAME, DamagedError
from reconciler.workers.processes import spawning
from reconciler.workers.slots import bringup
from schemas.changes import ops
from schemas.changes.state import EMPTY_DIGEST, State
from schemas.entities.entity import Entity, EntityKey, Provenance
from tests.harness.ports import address
from tests.harness.rawclient import Connection
from tests.proxy.worker import state
from tests.reconciler.entities import at_once, backend, begun
from tests.reconciler.workers.slots.test_supervisor import (
    Plane,
    _reaped,  # noqa: F401  # an autouse fixture
    alive,
    until,
)

BACKENDS = 3000


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "CHUNK_OPS_MAX", 5)


@pytest.fixture(autouse=True)
def _children(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that has not come into service when its daemon leaves is still our child."""
    spawned: list[int] = []
    spawn = spawning.spawn

    def remembering(path: Path, worker: int, cpu: int) -> int:
        spawned.append(spawn(path, worker, cpu))
        return spawned[-1]

    monkeypatch.setattr(spawning, "spawn", remembering)
    yield
    for child in spawned:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def large(where: str) -> State:
    """Some hundred chunks."""
    small = state(where, "127.0.0.1:9").entities.values()
    return State([*small, *(backend(f"shop/b{number}", 9) for number in range(BACKENDS))])


def listener(name: str) -> Entity:
    value = {"address": address()}
    return Entity(EntityKey("listener", name), value, Provenance("a.yaml", 1, 1))


def commit(made: Plane, *puts: Entity, removes: tuple[EntityKey, ...] = ()) -> None:
    """What a transaction with the workers in service leaves, when there are none."""
    at_once(made.store.commit(begun(made.store.running, puts, removes)))
    at_once(made.store.done())


async def stopped_in_mid_stream(made: Plane) -> int:
    """Stand a newcomer still while it takes the state in; its pid."""
    await until(lambda: made.store._newcomers)
    pid = made.supervisor.slots[0].pid
    # Some chunks are through, many are not.
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGSTOP)
    assert not made.supervisor.in_service
    return pid


def answers(where: str) -> bool:
    try:
        with Connection(where) as connection:
            connection.get("shop.test", "/")
    except OSError:
        return False
    return True


def test_a_newcomer_catches_up_with_what_was_committed_meanwhile(tmp_path: Path) -> None:
    where = address()

    async def run() -> None:
        made = Plane(tmp_path)
        made.run(large(where))
        made.supervisor.scale(1)
        pid = await stopped_in_mid_stream(made)
        more = listener("more")
        commit(made, more, listener("passing"), backend("shop/new", 9))
        # Nobody waits for it.
        async with asyncio.timeout(1), made.supervisor.exclusive:
            pass
        commit(
            made,
            backend("shop/b1", 10),
            removes=(EntityKey("listener", "passing"), EntityKey("backend", "shop/b2")),
        )
        commit(made, backend("shop/b2", 11), removes=(EntityKey("backend", "shop/b3"),))
        os.kill(pid, signal.SIGCONT)
        await until(lambda: made.supervisor.complete)
        assert made.pids() == [pid]
        assert made.digests() == {made.store.running.state.digest}
        [slot] = made.supervisor.slots
        assert slot.worker is not None
        found = await slot.worker.link.ask(bringup.wire.Audit())
        assert isinstance(found, bringup.wire.Audited)
        running = made.store.running
        assert (found.generation, found.digest) == (running.generation, running.state.digest)
        addresses = {held for (_, held), _ in made.sockets.items()}
        assert addresses == {where, more.value["address"]}, "none of what was there in between"
        for each in addresses:
            assert await asyncio.to_thread(answers, each)
        assert made.store._newcomers == []
        await made.end()

    asyncio.run(run())


@pytest.mark.parametrize(
    "altered",
    ["""CAST(replace(value, ':9"', ':8"') AS BLOB)""", "x'7b00'", "x'ff'", "7"],
    ids=["another value", "no value", "no text", "a number"],
)
def test_a_row_that_is_not_what_was_written_is_served_by_nobody(
    tmp_path: Path, altered: str
) -> None:
    """Rows are sent as they lie there, and it is the digest that tells."""
    where = address()

    async def run() -> None:
        made = Plane(tmp_path)
        made.run(large(where))
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as database:
            database.execute(f"UPDATE entities SET value = {altered} WHERE name = 'shop/b7'")
            database.commit()
        made.supervisor.scale(1)
        found: list[DamagedError] = []

        def noted() -> bool:
            damage = made.store.damage.take()
            found.extend([damage] if damage else [])
            return bool(found)

        await until(noted)
        assert str(found[0]).startswith("the state database is damaged")
        assert not made.supervisor.in_service
        await made.end()

    asyncio.run(run())


def test_what_was_missed_may_be_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringup, "_MISSED_MAX", 10)

    async def run() -> None:
        made = Plane(tmp_path)
        made.run(large(address()))
        made.supervisor.scale(1)
        pid = await stopped_in_mid_stream(made)
        commit(made, *(backend(f"shop/b{number}", 11) for number in range(500)))
        os.kill(pid, signal.SIGCONT)
        await until(lambda: made.supervisor.complete)
        assert made.pids() == [pid]
        assert made.digests() == {made.store.running.state.digest}
        await made.end()

    asyncio.run(run())


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_dies_or_hangs_in_mid_stream_has_a_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: signal.Signals
) -> None:
    monkeypatch.setattr(bringup, "REPLY_TIMEOUT_S", 2.0)

    async def run() -> None:
        made = Plane(tmp_path)
        made.run(large(address()))
        made.supervisor.scale(1)
        pid = await stopped_in_mid_stream(made)
        os.kill(pid, way)
        await until(lambda: made.supervisor.complete)
        assert made.pids() != [pid]
        await until(lambda: not alive(pid))
        assert made.digests() == {made.store.running.state.digest}
        await made.end()

    asyncio.run(run())


def test_one_that_hangs_in_its_last_step_holds_up_no_commit(tmp_path: Path) -> None:
    async def run() -> None:
        made = Plane(tmp_path)
        made.run(state(address(), "127.0.0.1:9"))
        lock = made.supervisor.exclusive
        async with lock:
            made.supervisor.scale(1)
            await until(lambda: lock._waiters)  # type: ignore[attr-defined]
            pid = made.supervisor.slots[0].pid
            os.kill(pid, signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
        async with lock:
            assert not made.supervisor.in_service
            waited = asyncio.get_running_loop().time() - began
        await until(lambda: made.supervisor.complete)
        assert made.pids() != [pid]
        await until(lambda: not alive(pid))
        await made.end()
        assert waited < 4

    asyncio.run(run())


def test_what_was_first_committed_while_it_waited_is_no_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits wait for as much as a newcomer may have missed, and not for a whole state."""
    monkeypatch.setattr(bringup, "_MISSED_MAX", 10)
    transferred: list[tuple[int, bool]] = []
    transfer = bringup.Bringup._transfer

    async def noting(self: bringup.Bringup, worker: bringup.Worker, missed: bringup.Missed) -> None:
        transferred.append((len(missed.puts), lock.locked()))
        await transfer(self, worker, missed)

    monkeypatch.setattr(bringup.Bringup, "_transfer", noting)

    async def run() -> None:
        nonlocal lock
        made = Plane(tmp_path)
        lock = made.supervisor.exclusive
        async with lock:
            made.supervisor.scale(1)
            await until(lambda: lock._waiters)  # type: ignore[attr-defined]
            made.run(large(address()))
        await until(lambda: made.supervisor.complete)
        assert made.digests() == {made.store.running.state.digest}
        await made.end()
        assert [count for count, locked in transferred if locked and count > 10] == []
        assert max(count for count, _ in transferred) > BACKENDS

    lock = asyncio.Lock()
    asyncio.run(run())


def test_the_next_daemon_begins_a_stream_anew(tmp_path: Path) -> None:
    """The last one died in the middle of it; the worker is whole, and holds nothing yet."""

    async def run() -> None:
        first = Plane(tmp_path)
        first.run(large(address()))
        first.supervisor.scale(1)
        pid = await stopped_in_mid_stream(first)
        [slot] = first.supervisor.slots
        # As `detach` does it, with a worker that has not come into service.
        assert slot.part is not None
        slot.part.cancel()
        await slot.part.ended()
        first.sockets.close()
        first.store.close()
        os.kill(pid, signal.SIGCONT)
        second = Plane(tmp_path)
        second.supervisor.scale(1)
        await until(lambda: second.supervisor.complete)
        assert second.pids() == [pid]
        assert second.digests() == {second.store.running.state.digest} != {EMPTY_DIGEST}
        await second.end()

    asyncio.run(run())
