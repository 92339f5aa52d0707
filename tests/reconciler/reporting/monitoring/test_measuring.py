"""What of the traffic a plan touches, from counters that are made up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.planning.differ import diff_entities
from reconciler.planning.planner import Live
from reconciler.planning.sizing import Sizing
from reconciler.reporting.monitoring.measuring import Measuring
from schemas.changes.state import State
from schemas.entities.entity import Entity
from schemas.kinds.settings import Settings
from tests.reconciler.building import entity, frontend

RUNNING = [
    entity("settings", "settings", workers=3),
    entity("listener", "public", address="127.0.0.1:8080"),
    entity("cluster", "shop"),
    entity("backend", "shop/a", address="127.0.0.1:9001"),
    frontend("web"),
]


@dataclass
class Counted:
    """A worker with so many clients, and as many of everything else."""

    clients: int

    def gauge(self, name: str) -> int:
        assert name == "connections_now"
        return self.clients

    def slot_field(self, kind: str, name: str, field: str) -> int:
        assert (kind, field) in {
            ("backend", "connections"),
            ("backend", "active"),
            ("cluster", "active"),
            ("frontend", "active"),
        }, name
        return self.clients * (10 if field == "connections" else 1)


def live(desired: list[Entity], *, running: list[Entity], override: int | None = None) -> Live:
    state = State(running)
    settings = next(each.typed(Settings) for each in running if each.key.kind == "settings")
    store: Any = SimpleNamespace(running=SimpleNamespace(state=state), settings=settings)
    slots = [SimpleNamespace(id=number, counters=Counted(number + 1)) for number in range(3)]
    wanted = {each.key: each for each in desired}
    changes = diff_entities({key: wanted.get(key) for key in (*state, *wanted)}, state)

    async def look() -> Live:
        supervisor = cast("Any", SimpleNamespace(slots=slots))
        nobody = cast("Any", None)
        count_after = Sizing(store, override).count_after
        others = [nobody] * 8
        return Measuring(store, supervisor, nobody, count_after, *others, 0.0).live(changes)

    return asyncio.run(look())


def test_everything_that_a_removal_touches() -> None:
    found = live(RUNNING[:1], running=RUNNING)
    assert {key.kind: count for key, count in found.connections.items()} == {
        "listener": 6,
        "backend": 60,
    }
    assert {key.kind: count for key, count in found.requests.items()} == {
        "backend": 6,
        "cluster": 6,
        "frontend": 6,
    }
    assert not found.leaving
    assert not found.starting


def test_whose_the_clients_are_is_not_known_with_two_listeners() -> None:
    other = entity("listener", "other", address="127.0.0.1:8081")
    found = live([*RUNNING], running=[*RUNNING, other])
    assert not found.connections


@pytest.mark.parametrize(
    ("workers", "override", "leaving", "starting"),
    [
        (1, None, {1: 2, 2: 3}, []),
        (5, None, {}, [3, 4]),
        (1, 3, {}, []),
    ],
)
def test_the_workers_that_come_and_go(
    workers: int, override: int | None, leaving: dict[int, int], starting: list[int]
) -> None:
    settings = entity("settings", "settings", workers=workers)
    found = live([settings, *RUNNING[1:]], running=RUNNING, override=override)
    assert (found.leaving, list(found.starting)) == (leaving, starting)
