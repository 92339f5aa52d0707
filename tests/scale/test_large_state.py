"""A worker takes in whatever state there is, and the daemon's loop belongs to others meanwhile.

Entities are made here, since parsing them is another matter: a frontend, a cluster and two backends
per tenant. The first part is a newcomer, the second a transaction with a worker in service.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.transaction.runner import Runner
from schemas.changes.state import State
from schemas.entities.entity import NOWHERE, Entity, EntityKey
from schemas.messages import wire
from tests.harness.daemon import resident_kib
from tests.harness.ports import address
from tests.harness.rawclient import Connection
from tests.proxy.worker import state
from tests.reconciler.entities import backend, begun
from tests.reconciler.workers.slots.test_supervisor import (
    Plane,
    _reaped,  # noqa: F401  # an autouse fixture
    until,
)

TENANTS = 100_000 if os.environ.get("KAKEHI_TEST_LONG") else 10_000
# On a quiet machine it is 10 to 20 ms; what counts is that no part takes seconds.
_BLOCKED_S_MAX = 0.5
_WORKER_BYTES_MAX = 16 * 1024
_LOAD_S_MAX = 180.0


class _NoAdmin:
    """A metrics listener that the settings do not ask for."""

    address: str | None = None

    def check(self, address: str | None, given: Collection[str]) -> None:
        assert address is None

    def prepare(self, address: str | None, given: Collection[str]) -> None:
        assert address is None

    def leave(self) -> None:
        return

    def commit(self) -> None:
        return

    def abort(self) -> None:
        return


def tenants(count: int) -> Iterator[Entity]:
    for number in range(count):
        name = f"tenant-{number:06}"
        yield Entity(EntityKey("cluster", name), {}, NOWHERE)
        for each in "ab":
            yield replace(backend(f"{name}/{each}", 9), provenance=NOWHERE)
        leads = {"hostname": f"{name}.example.com", "listeners": ["public"], "cluster": name}
        yield Entity(EntityKey("frontend", name), dict(leads), NOWHERE)


@asynccontextmanager
async def heartbeat() -> AsyncIterator[list[float]]:
    """The longest time for which the loop had none for others."""
    worst = [0.0]

    async def beat() -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            worst[0] = max(worst[0], loop.time() - before - 0.001)

    task = asyncio.get_running_loop().create_task(beat())
    try:
        yield worst
    finally:
        task.cancel()


def status_of(where: str, hostname: str) -> int:
    with Connection(where) as connection:
        return connection.get(hostname, "/").status


async def check(made: Plane, where: str) -> None:
    """It holds all of it, and requests find their way: nobody listens at the backends."""
    assert made.digests() == {made.store.running.state.digest}
    [worker] = made.workers()
    found = await worker.link.ask(wire.Audit())
    assert isinstance(found, wire.Audited)
    assert (found.digest, found.differing) == (made.store.running.state.digest, [])
    for number in range(0, TENANTS, 997):
        hostname = f"tenant-{number:06}.example.com"
        assert await asyncio.to_thread(status_of, where, hostname) in (502, 503)


def small(where: str) -> State:
    everything = state(where, "127.0.0.1:9").entities
    return State(entity for key, entity in everything.items() if key.kind != "frontend")


def test_a_newcomer_takes_a_large_state_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = address()

    async def run() -> None:
        made = Plane(tmp_path)
        made.run(State([*small(where).entities.values(), *tenants(TENANTS)]))
        made.supervisor.scale(1)
        await until(lambda: made.store._newcomers)
        began = time.monotonic()
        async with heartbeat() as worst:
            held_s = await _longest_exclusive(made)
        took_s = time.monotonic() - began
        kib = resident_kib(made.pids()[0])
        await check(made, where)
        per_tenant = kib * 1024 // TENANTS
        with capsys.disabled():
            print(
                f"\n{TENANTS} tenants: a newcomer serves after {took_s:.2f} s, commits were held up"
                f" for {held_s * 1e3:.0f} ms, the loop for {worst[0] * 1e3:.0f} ms;"
                f" {per_tenant} B per tenant"
            )
        await made.end()
        assert worst[0] < _BLOCKED_S_MAX
        assert held_s < _BLOCKED_S_MAX
        assert took_s < _LOAD_S_MAX
        assert per_tenant < _WORKER_BYTES_MAX

    asyncio.run(run())


async def _longest_exclusive(made: Plane) -> float:
    """For how long a transaction would have had to wait, until the newcomer is in service."""
    longest, since = 0.0, None
    async with asyncio.timeout(_LOAD_S_MAX):
        while not made.supervisor.complete:
            if not made.supervisor.exclusive.locked():
                since = None
            elif since is None:
                since = time.monotonic()
            else:
                longest = max(longest, time.monotonic() - since)
            await asyncio.sleep(0.001)
    return longest


def test_a_large_change_reaches_a_worker_in_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = address()

    async def run() -> None:
        made = Plane(tmp_path)
        made.run(small(where))
        made.supervisor.scale(1)
        await until(lambda: made.supervisor.complete)
        [worker] = made.workers()
        record = begun(made.store.running, tuple(tenants(TENANTS)))
        runner = Runner(made.store, made.supervisor, made.sockets, _NoAdmin(), lambda _commit: None)
        began = time.monotonic()
        async with heartbeat() as worst:
            assert await runner.run(record) is None
        took_s = time.monotonic() - began
        assert list(made.workers()) == [worker]
        await check(made, where)
        with capsys.disabled():
            print(
                f"\n{TENANTS} tenants: one change has them after {took_s:.2f} s,"
                f" the loop was blocked for {worst[0] * 1e3:.0f} ms"
            )
        await made.end()
        assert took_s < _LOAD_S_MAX

    asyncio.run(run())
