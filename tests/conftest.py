"""The fixtures of the harness, what a daemon said when a test fails, and an end when one hangs."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator

import pytest
from xdist.workermanage import WorkerController

from tests.harness import daemon
from tests.harness.fixtures import (  # noqa: F401  (pytest finds fixtures by name here)
    anyhost,
    backends,
    daemons,
    gateway,
    lane,
    nginx,
    nowhere,
    repo,
    shared_gateway,
)
from tests.harness.forked import forkserver

# An installed Kakehi has been compiled, and where nothing may be kept, each daemon and each command
# that a test starts would compile all modules anew: a third of its processor time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_SHOWN_CHARACTERS = 4000


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have no garbage looked for in what is collected, which stays: not now, and in no test."""
    gc.disable()
    collected = yield
    gc.freeze()
    gc.enable()
    return collected


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have the daemons of a test executed that is about what a process spends, or when."""
    forkserver.allow(not any(map(item.get_closest_marker, ("timed", "serial"))))


def pytest_sessionfinish() -> None:
    """End what forks daemons, which were left to it."""
    forkserver.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each running daemon's output to the report of a failed test."""
    report = yield
    if report.failed:
        for running in daemon.RUNNING:
            title = f"kakehi run of {running.repo.directory}"
            report.sections.append((title, running.log()[-_SHOWN_CHARACTERS:]))
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController, error: object) -> None:
    """A test that hangs or crashes takes its xdist worker along, and what was left to that one.

    pytest-xdist would go on without those tests and call the end of it failed tests, which
    `.ci/run` repeats.
    """
    if error:
        pytest.exit(
            f"{node.gateway.id} has died in a test: {error}", pytest.ExitCode.INTERNAL_ERROR
        )
