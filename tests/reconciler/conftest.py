"""Hypothesis without deadlines, since a busy machine is no fault; and an end for the zygote."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from reconciler.workers.processes import spawning

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session", autouse=True)
def zygote() -> Iterator[None]:
    """What forks the workers of the tests that have a supervisor in their own process."""
    yield
    spawning.zygote.end()
