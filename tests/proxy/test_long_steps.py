"""A step of the worker that takes seconds: it says that it is at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.changes.state import State
from schemas.entities.entity import EntityKey
from schemas.messages import wire
from tests.harness import ports
from tests.proxy.worker import Worker, state

_EXPRESSIONS = 800


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.end()


def test_a_step_that_takes_long_says_so(worker: Worker) -> None:
    """Nobody takes a worker for dead that has expressions to compile for some seconds."""
    connection, small = worker.connect(), state(ports.address(), ports.address())
    connection.descriptors(connection.greet())
    frontend = small[EntityKey("frontend", "web")]
    wanted = [*small.entities.values()]
    for number in range(_EXPRESSIONS):
        value = {**frontend.value, "path": {"regex": f"/{number}/([a-z]{{1000}}){{12}}"}}
        key = EntityKey("frontend", f"web-{number}")
        wanted.append(replace(frontend, key=key, value=value))
    prepared = connection.prepare(State(wanted))
    connection.close()
    assert isinstance(prepared, wire.Prepared)
    assert connection.worked >= 1
