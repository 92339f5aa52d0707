"""The disk of the state directory fails, at a start or for a while: F31, as where it is full (T43).

Whatever call it is that fails, what was recorded is served, told and mended by itself. What cannot
be read for a while is not damaged: nothing of it is lost, and nothing that was recorded meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from tests.faults.test_lost_place import (
    WAIT_S,
    in_service,
    kill,
    starts_alone,
    unwritable_at_the_first_start,
    unwritable_at_the_start,
    warned,
)
from tests.harness import processes
from tests.harness.failing import LENGTHS, NAMES, OPENS, READS, SYNCS, WRITES, Failing
from tests.harness.site import Site


@contextmanager
def failing(site: Site, calls: str, with_temporary: bool = False) -> Iterator[Failing]:
    """A disk with I/O errors, which may be the temporary directory's as well; yields it."""
    temporary = site.directory / "temporary"
    temporary.mkdir()
    # Python has looked which temporary directory works: that was before it broke.
    broken = [site.daemon.state_dir, *([temporary / "kakehi-"] if with_temporary else [])]
    disk = Failing(site.directory, calls, broken)
    site.daemon.extra = {**disk.environment, "TMPDIR": str(temporary)}
    yield disk


@contextmanager
def broken(site: Site, calls: str, with_temporary: bool = False) -> Iterator[Callable[[], None]]:
    """The same; yields its end."""
    with failing(site, calls, with_temporary) as disk:
        yield disk.mend


def recorded(site: Site) -> None:
    """Four commits, and a backend that is drained."""
    site.start(pairs(site, "red"), **site.daemon.extra)
    for color in ("blue", "red", "blue"):
        site.commit(pairs(site, color))
    site.daemon.ask("drain", backend="main/b1", owner="before", ttl_s=3600.0)


def pairs(site: Site, color: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [color, color, color]}, {"main": "main"})}


def drained(site: Site) -> dict[str, str]:
    return {each["backend"]: each["owner"] for each in site.daemon.ask("status")["drains"]}


def nothing_is_lost(site: Site, generation: int) -> None:
    """Of before the fault, and of what came while it lasted; nor at the next start."""
    for _ in range(2):
        applied = [each["generation"] for each in site.history(50) if each["outcome"] == "applied"]
        assert applied == list(range(generation, 0, -1))
        assert drained(site) == {"main/b1": "before", "main/b2": "meanwhile"}
        assert not list(site.daemon.state_dir.glob("*.damaged-*"))
        site.commit(pairs(site, "blue" if generation % 2 else "red"))
        generation += 1
        starts_alone(site)


def failing_for_a_while(calls: str, seconds: float, site: Site) -> None:
    """While it is in service: requests are answered, the commit waits, and all comes back."""
    with failing(site, calls) as disk:
        disk.mend()
        recorded(site)
        pid, healthy = site.daemon.pid, site.daemon.state_dir.joinpath("state.db").stat().st_ino
        disk.fail()
        sha = site.repo.commit(pairs(site, "red"), "meanwhile")
        processes.wait_until(lambda: not quiet(site), "it is told", WAIT_S)
        result = site.daemon.ask("drain", backend="main/b2", owner="meanwhile", ttl_s=3600.0)
        assert result["backends"] == ["main/b2"], result
        # What is in memory of the database may be all that has to be read.
        assert result["not_kept"] or calls == READS
        time.sleep(seconds)
        assert site.everywhere("main.test") == {"blue"}
        disk.mend()
        site.wait(sha)
        assert site.daemon.pid == pid
        assert site.daemon.state_dir.joinpath("state.db").stat().st_ino == healthy
        processes.wait_until(partial(quiet, site), "it is over", WAIT_S)
        if calls == READS:
            over = partial(warned, site, "could not be read for a while")
            processes.wait_until(over, "it is told that it is over", WAIT_S)
        nothing_is_lost(site, 5)


def unreadable_at_a_start(calls: str, stopped: bool, site: Site) -> None:
    """What is there is left alone, and comes back with what was recorded meanwhile."""
    with failing(site, calls) as disk:
        disk.mend()
        recorded(site)
        workers, running = site.identity(), site.running()
        site.daemon.leave()
        if stopped:
            kill(workers)
        disk.fail()
        site.daemon.return_(**site.daemon.extra)
        in_service(site)
        assert site.everywhere("main.test") == {"blue"}
        assert not quiet(site)
        if not stopped:
            assert site.running() == running and site.identity() == workers
        site.daemon.ask("drain", backend="main/b2", owner="meanwhile", ttl_s=3600.0)
        disk.mend()
        processes.wait_until(partial(quiet, site), "it is over", WAIT_S)
        assert warned(site, "could not be read at the start")
        generation = site.running()[0]
        site.commit(pairs(site, "red"))
        told = [each["generation"] for each in site.history(50) if each["outcome"] == "applied"]
        assert told[0] == generation + 1
        assert told[-4:] == [4, 3, 2, 1]
        assert drained(site) == {"main/b1": "before", "main/b2": "meanwhile"}
        starts_alone(site)
        assert drained(site) == {"main/b1": "before", "main/b2": "meanwhile"}


def quiet(site: Site) -> bool:
    """Nothing is said of the directory any more but that it is over."""
    status = site.daemon.ask("status")
    said = [each for each in status["warnings"] if "cannot be" in each]
    return not said and status["source"]["problem"] is None


CHANGES = f"{WRITES},{SYNCS},{LENGTHS},{NAMES}"
EVERYTHING = f"{CHANGES},{READS}"


CASES: dict[str, Callable[[Site], None]] = {
    **{
        f"failing at {calls} at a start": partial(
            unwritable_at_the_start, partial(broken, calls=calls), False
        )
        for calls in (WRITES, SYNCS, LENGTHS, NAMES)
    },
    **{
        f"failing at {calls} for {seconds} s": partial(failing_for_a_while, calls, seconds)
        for calls in (READS, EVERYTHING, CHANGES)
        for seconds in (0.0, 2.5)
    },
    **{
        f"unread by {calls} at a start {'without' if stopped else 'with'} workers": partial(
            unreadable_at_a_start, calls, stopped
        )
        for calls in (READS, OPENS)
        for stopped in (False, True)
    },
    "failing at all calls at a start with workers": partial(
        unwritable_at_the_start, partial(broken, calls=EVERYTHING, with_temporary=True), False
    ),
    "failing at all that changes it at a start without workers": partial(
        unwritable_at_the_start, partial(broken, calls=CHANGES, with_temporary=True), True
    ),
    "failing at all calls at the first start": partial(
        unwritable_at_the_first_start, partial(broken, calls=EVERYTHING, with_temporary=True)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_service_goes_on_where_it_is(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
