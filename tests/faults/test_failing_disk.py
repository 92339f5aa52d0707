"""The disk of the state directory fails at a start: F31, as where it is full or read-only.

Whatever call it is that fails, what was recorded is served, told and mended by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.faults.test_lost_place import unwritable_at_the_first_start, unwritable_at_the_start
from tests.harness.failing import LENGTHS, NAMES, READS, SYNCS, WRITES, Failing
from tests.harness.site import Site


@contextmanager
def failing(site: Site, calls: str, with_temporary: bool = False) -> Iterator[Callable[[], None]]:
    """A disk with I/O errors, which may be the temporary directory's as well; yields its end."""
    temporary = site.directory / "temporary"
    temporary.mkdir()
    # Python has looked which temporary directory works: that was before it broke.
    broken = [site.daemon.state_dir, *([temporary / "kakehi-"] if with_temporary else [])]
    disk = Failing(site.directory, calls, broken)
    site.daemon.extra = {**disk.environment, "TMPDIR": str(temporary)}
    yield disk.mend


CHANGES = f"{WRITES},{SYNCS},{LENGTHS},{NAMES}"
EVERYTHING = f"{CHANGES},{READS}"


CASES: dict[str, Callable[[Site], None]] = {
    **{
        f"failing at {calls} at a start": partial(
            unwritable_at_the_start, partial(failing, calls=calls), False
        )
        for calls in (WRITES, SYNCS, LENGTHS, NAMES)
    },
    "failing at all calls at a start with workers": partial(
        unwritable_at_the_start, partial(failing, calls=EVERYTHING, with_temporary=True), False
    ),
    "failing at all that changes it at a start without workers": partial(
        unwritable_at_the_start, partial(failing, calls=CHANGES, with_temporary=True), True
    ),
    "failing at all calls at the first start": partial(
        unwritable_at_the_first_start, partial(failing, calls=EVERYTHING, with_temporary=True)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_service_goes_on_where_it_is(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
