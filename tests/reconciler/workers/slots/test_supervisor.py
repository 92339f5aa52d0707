"""The supervisor with real worker processes and a store, without a repository."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.parts import Parts
from reconciler.storage.store import Store
from reconciler.workers.linked.worker import Worker
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.processes import spawning, worker_sockets
from reconciler.workers.slots import tending
from reconciler.workers.slots.bringup import Bringup
from reconciler.workers.slots.slot import Roster
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.telling.challenges import ChallengeKeeper
from reconciler.workers.telling.health import HealthTableKeeper
from reconciler.workers.telling.rates import RateTableKeeper
from reconciler.workers.telling.tickets import TicketKeeper
from schemas.changes.state import State
from schemas.entities.entity import EntityKey
from schemas.messages import wire
from schemas.messages.challenges import ANSWERS_MAX, ChallengeAnswers
from tests.harness.ports import address
from tests.harness.rawclient import Connection
from tests.proxy.worker import state
from tests.reconciler.entities import at_once, begun

CHILDREN: list[int] = []


@pytest.fixture(autouse=True)
def _reaped() -> Iterator[None]:
    yield
    while CHILDREN:
        pid = CHILDREN.pop()
        # One that a test has failed to end is not waited for.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


class NothingLost:
    """All contents are there as they were written."""

    lost: frozenset[str] = frozenset()

    def mend(self) -> bool:
        return False


class Plane:
    """What a daemon has, as far as workers are concerned; listens to its supervisor."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "workers").mkdir(parents=True, exist_ok=True)
        self.store = Store(directory / "state")
        self.sockets = SocketTable()
        self.drained: list[str] = []
        self.tickets = TicketKeeper(directory / "state", self.store)
        self.tickets.rotate_if_due()
        self.challenges = ChallengeKeeper(directory, self.workers)
        self.rates = RateTableKeeper(directory)
        bringup = Bringup(
            self.store,
            self.sockets,
            lambda: wire.Overlay(drained=self.drained, kept="kept"),
            self.tickets.path,
            self.challenges.path,
            self.rates,
            HealthTableKeeper(directory),
            NothingLost(),
        )
        self.leave_ms = 0
        self.supervisor = Supervisor(
            directory, self.store.epoch, Roster(), self.sockets, bringup, Parts(), self
        )

    def workers_changed(self) -> None:
        """Nobody waits for it here."""

    def was_replaced(self) -> None:
        """Neither."""

    def drain_ms(self) -> int:
        return self.leave_ms

    def run(self, wanted: State) -> None:
        """Make a state the running one, as a finished transaction does."""
        at_once(self.store.commit(begun(self.store.running, tuple(wanted.entities.values()))))
        at_once(self.store.done())

    def workers(self) -> Iterable[Worker]:
        return self.supervisor.in_service.values()

    def pids(self) -> list[int]:
        return [slot.worker.process.pid if slot.worker else 0 for slot in self.supervisor.slots]

    def digests(self) -> set[str]:
        return {slot.worker.digest for slot in self.supervisor.slots if slot.worker}

    async def leave(self) -> None:
        """The control plane goes, the workers stay."""
        parts = [slot.part for slot in self.supervisor.slots if slot.part]
        # Here the next control plane is the same process, so that they stay its children.
        CHILDREN.extend(self.pids())
        self.supervisor.detach()
        for part in parts:
            await part.ended()
        self.sockets.close()
        self.rates.close()
        self.store.close()

    async def end(self, drain_ms: int = 0) -> None:
        await self.supervisor.stop(drain_ms)
        self.store.close()


@asynccontextmanager
async def plane(directory: Path, workers: int = 1) -> AsyncIterator[Plane]:
    made = Plane(directory)
    made.run(state(address(), "127.0.0.1:9"))
    made.supervisor.scale(workers)
    try:
        await until(lambda: made.supervisor.complete)
        yield made
    finally:
        await made.end()


async def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # a condition of other processes
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


def ended(pid: int) -> tuple[int, int]:
    """(which process, how it has ended); zeros for one that has not."""
    return os.waitpid(pid, os.WNOHANG)


def test_workers_come_up_at_the_running_state(tmp_path: Path) -> None:
    async def run() -> None:
        async with plane(tmp_path, 2) as made:
            assert made.digests() == {made.store.running.state.digest}
            pids = made.pids()
        assert not any(alive(pid) for pid in pids)

    asyncio.run(run())


def test_the_next_daemon_adopts_what_the_last_one_left(tmp_path: Path) -> None:
    async def run() -> None:
        first = Plane(tmp_path)
        first.run(state(address(), "127.0.0.1:9"))
        first.supervisor.scale(2)
        await until(lambda: first.supervisor.complete)
        pids = first.pids()
        held = sorted(key for key, _ in first.sockets.items())
        await first.leave()
        second = Plane(tmp_path)
        second.supervisor.scale(2)
        await until(lambda: second.supervisor.complete)
        assert second.pids() == pids
        assert sorted(key for key, _ in second.sockets.items()) == held
        await second.end()
        await until(lambda: not any(alive(pid) for pid in pids))

    asyncio.run(run())


def test_an_adopted_worker_in_mid_transaction_is_led_to_its_end(tmp_path: Path) -> None:
    """Its daemon died behind the commit record: it may have heard of the commit or not."""

    async def run() -> None:
        where = address()
        first = Plane(tmp_path)
        first.run(state(where, "127.0.0.1:9"))
        first.supervisor.scale(2)
        await until(lambda: first.supervisor.complete)
        pids = first.pids()
        await first.leave()
        store = Store(tmp_path / "state")
        wanted = state(where, "127.0.0.1:10")
        changed = tuple(
            entity
            for key, entity in wanted.entities.items()
            if store.running.state[key].value != entity.value
        )
        at_once(store.commit(begun(store.running, changed)))
        store.close()
        second = Plane(tmp_path)
        assert second.store.unfinished is not None
        second.supervisor.scale(2)
        await until(lambda: second.supervisor.complete)
        assert second.pids() == pids
        assert second.digests() == {wanted.digest}
        await second.end()

    asyncio.run(run())


def test_a_worker_that_holds_something_else_is_replaced(tmp_path: Path) -> None:
    async def run() -> None:
        first = Plane(tmp_path)
        first.run(state(address(), "127.0.0.1:9"))
        first.supervisor.scale(1)
        await until(lambda: first.supervisor.complete)
        (pid,) = first.pids()
        await first.leave()
        for _ in range(2):
            store = Store(tmp_path / "state")
            at_once(store.commit(begun(store.running, tuple(store.running.state.values()))))
            at_once(store.done())
            store.close()
        second = Plane(tmp_path)
        second.supervisor.scale(1)
        await until(lambda: second.supervisor.complete)
        assert second.pids() != [pid]
        await until(lambda: not alive(pid))
        assert second.digests() == {second.store.running.state.digest}
        await second.end()

    asyncio.run(run())


def test_a_worker_that_hangs_is_not_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tending, "ADOPT_TIMEOUT_S", 0.5)

    async def run() -> None:
        first = Plane(tmp_path)
        first.run(state(address(), "127.0.0.1:9"))
        first.supervisor.scale(1)
        await until(lambda: first.supervisor.complete)
        (pid,) = first.pids()
        await first.leave()
        os.kill(pid, signal.SIGSTOP)
        second = Plane(tmp_path)
        second.supervisor.scale(1)
        await until(lambda: second.supervisor.complete)
        assert second.pids() != [pid]
        await until(lambda: not alive(pid))
        await second.end()

    asyncio.run(run())


def test_a_killed_worker_has_a_successor_on_the_same_socket(tmp_path: Path) -> None:
    async def run() -> None:
        async with plane(tmp_path) as made:
            (pid,) = made.pids()
            (before,) = [each.fileno() for _, each in made.sockets.items()]
            os.kill(pid, signal.SIGKILL)
            await until(lambda: made.pids() not in ([pid], [0]))
            (after,) = [each.fileno() for _, each in made.sockets.items()]
            assert after == before
            assert made.supervisor.slots[0].restarts == 1

    asyncio.run(run())


def test_a_successor_gives_the_answers_too_and_only_while_they_are_wanted(tmp_path: Path) -> None:
    """An authority may ask at any time, and any worker."""

    async def asked(where: str) -> tuple[int, bytes]:
        def ask() -> tuple[int, bytes]:
            with Connection(where) as connection:
                found = connection.get("shop.test", "/.well-known/acme-challenge/token")
            return found.status, found.body

        return await asyncio.to_thread(ask)

    async def run() -> None:
        async with plane(tmp_path) as made:
            [listener] = made.store.running.state.names("listener")
            found = made.store.running.state[EntityKey("listener", listener)]
            where = str(found.value["address"])
            assert (await asked(where))[0] != 200
            many = ChallengeAnswers(http={str(number): "proof" for number in range(ANSWERS_MAX)})
            assert (
                await made.challenges.give("one", ChallengeAnswers(http={"token": "proof"})) == []
            )
            [problem] = await made.challenges.give("other", many)
            assert problem == f"there are more than {ANSWERS_MAX} hostnames to answer for at once"
            assert await asked(where) == (200, b"proof")
            (pid,) = made.pids()
            os.kill(pid, signal.SIGKILL)
            await until(lambda: made.pids() not in ([pid], [0]))
            assert await asked(where) == (200, b"proof")
            assert await made.challenges.give("one", ChallengeAnswers()) == []
            assert (await asked(where))[0] != 200

    asyncio.run(run())


def test_a_worker_that_keeps_dying_is_not_restarted_in_a_tight_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[int] = []

    def dying(path: Path, worker: int, _cpu: int) -> int:
        spawned.append(worker)
        with worker_sockets.listen(path) as control:
            control.set_inheritable(True)
            command = [sys.executable, "-S", "-c", "raise SystemExit(7)"]
            return os.posix_spawn(sys.executable, command, os.environ)

    monkeypatch.setattr(spawning, "spawn", dying)

    async def run() -> None:
        made = Plane(tmp_path)
        made.supervisor.scale(1)
        await asyncio.sleep(3.0)
        assert 3 <= len(spawned) <= 7
        assert made.supervisor.slots[0].problem == "it did not start: it ended with exit code 7"
        assert not made.supervisor.complete
        await made.end()

    asyncio.run(run())


def test_surplus_workers_are_drained_and_their_sockets_closed(tmp_path: Path) -> None:
    async def run() -> None:
        async with plane(tmp_path, 3) as made:
            pids = made.pids()
            made.supervisor.scale(1)
            assert made.pids() == pids[:1]
            assert {worker for (worker, _), _ in made.sockets.items()} == {0}
            await until(lambda: not alive(pids[1]) and not alive(pids[2]))
            made.supervisor.scale(2)
            await until(lambda: made.supervisor.complete)
            assert made.digests() == {made.store.running.state.digest}

    asyncio.run(run())


def test_stopping_while_workers_start_leaves_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        made = Plane(tmp_path)
        made.supervisor.scale(2)
        await until(lambda: all(slot.pid for slot in made.supervisor.slots))
        pids = [slot.pid for slot in made.supervisor.slots]
        await made.end()
        await until(lambda: not any(alive(pid) for pid in pids))

    asyncio.run(run())


@pytest.mark.parametrize("moment", ["at once", "looking", "greeted"])
def test_stopping_while_workers_are_adopted_drains_them(tmp_path: Path, moment: str) -> None:
    """They serve, whether or not they were found: none is left, and none is killed."""

    async def run() -> None:
        first = Plane(tmp_path)
        first.run(state(address(), "127.0.0.1:9"))
        first.supervisor.scale(2)
        await until(lambda: first.supervisor.complete)
        pids = first.pids()
        await first.leave()
        second = Plane(tmp_path)
        second.leave_ms = 5000
        second.supervisor.scale(2)
        slots = second.supervisor.slots
        if moment == "looking":
            await asyncio.sleep(0)
        elif moment == "greeted":
            # At each turn: the rest of an adoption takes a few of them.
            while not any(slot.pid for slot in slots):  # noqa: ASYNC110  # turns of the loop
                await asyncio.sleep(0)
        was_complete = second.supervisor.complete
        try:
            await second.end(5000)
            assert not was_complete
            assert [ended(pid) for pid in pids] == [(pid, 0) for pid in pids]
        finally:
            for pid in filter(alive, pids):
                os.kill(pid, signal.SIGKILL)

    asyncio.run(run())
