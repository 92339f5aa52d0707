"""Makes the harness's fixtures known, and shows what a daemon said when a test fails."""

from __future__ import annotations

from collections.abc import Generator

import pytest

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

_SHOWN_CHARACTERS = 4000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each running daemon's output to the report of a failed test."""
    report = yield
    if report.failed:
        for running in daemon.RUNNING:
            title = f"kakehi run of {running.repo.directory}"
            report.sections.append((title, running.log()[-_SHOWN_CHARACTERS:]))
    return report
