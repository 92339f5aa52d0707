"""Workers that serve and cannot be connected to, and no daemon runs: they are not taken for none.

A worker that is stopped takes no connections, and after a few of them its control socket has no
room for more; or its socket has lost its name meanwhile. The next daemon knows of it all the same,
and ends it as soon as another one serves in its place.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import processes
from tests.harness.manager import ServiceManager
from tests.harness.site import Site

WAIT_S = 60.0
TOLD_WITHIN_S = 15.0
# The control socket of a worker has room for 8.
LOOKS = 10


def files(site: Site, backend: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}


def in_service(site: Site) -> bool:
    return all(each["state"] == "running" for each in site.daemon.ask("status")["workers"])


def one_is_stopped(site: Site) -> tuple[int, int]:
    """Start, end the daemon, and stop the first of two workers."""
    site.start(files(site, "red"))
    stopped, other = site.worker_pids()
    site.daemon.leave()
    processes.stop(stopped)
    return stopped, other


def is_replaced(site: Site, stopped: int, other: int) -> None:
    """The next daemon does it; the other worker goes on, and nothing of before is served."""
    site.daemon.return_(wait=False)
    processes.wait_until(lambda: in_service(site), "both are in service", WAIT_S)
    told = f"a running worker cannot be adopted worker=0 pid={stopped} "
    assert told in site.daemon.log()
    assert site.worker_pids()[0] != stopped
    assert site.worker_pids()[1] == other
    processes.await_end([stopped], WAIT_S)
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}
    assert site.daemon.ask("status")["warnings"] == []


def looked_for_too_often(site: Site) -> None:
    stopped, other = one_is_stopped(site)
    for _ in range(LOOKS):
        told = site.daemon.run_cli("status").stderr
        assert "2 workers go on serving without it" in told, told
        assert f"{stopped}" in told, told
    is_replaced(site, stopped, other)


def lost_and_stopped(site: Site) -> None:
    stopped, other = one_is_stopped(site)
    shutil.rmtree(site.daemon.runtime_dir)
    told = site.daemon.run_cli("status").stderr
    assert "2 workers go on serving without it" in told, told
    is_replaced(site, stopped, other)


def beyond_the_wanted(site: Site) -> None:
    """It has a number that nobody wants any more."""
    site.start(files(site, "red"))
    other, stopped = site.worker_pids()
    site.daemon.leave()
    processes.stop(stopped)
    shutil.rmtree(site.daemon.runtime_dir)
    site.daemon.workers = 1
    site.daemon.return_(wait=False)
    processes.wait_until(lambda: in_service(site), "one is in service", WAIT_S)
    processes.await_end([stopped], WAIT_S)
    site.commit(files(site, "blue"))
    assert site.worker_pids() == [other]
    assert site.everywhere("main.test") == {"blue"}


def told_to_end(site: Site) -> None:
    stopped, other = one_is_stopped(site)
    for _ in range(LOOKS):
        site.daemon.run_cli("status")
    told = site.daemon.run_cli("stop", "--timeout", "3s")
    assert f"process {stopped}" in told.stderr, told
    assert told.returncode == 8, told
    processes.resume(stopped)
    processes.await_end([stopped, other], WAIT_S)


def bound_elsewhere(site: Site) -> None:
    """The service manager has kept their sockets; the next daemon has another runtime directory."""
    with ServiceManager(site.directory / "manager") as manager:
        site.daemon.manager = manager
        site.start(files(site, "red"))
        pids = site.worker_pids()
        processes.wait_until(lambda: len(manager.names) == 2, "their sockets are kept", WAIT_S)
        site.daemon.leave()
        site.daemon.runtime_dir = site.daemon.base / "other"
        try:
            site.daemon.return_(wait=False)
            processes.wait_until(lambda: in_service(site), "two others are in service", WAIT_S)
            assert not set(pids) & set(site.worker_pids())
            processes.wait_until(
                lambda: len(site.daemon.ask("status")["warnings"]) == 2, "it is told", TOLD_WITHIN_S
            )
            commit = site.repo.commit(files(site, "blue"))
            done = site.daemon.run_cli("wait", "--commit", commit, "--timeout", "4s")
            assert done.returncode == 8, done
            for number, pid in enumerate(pids):
                told = f"process {pid} (kakehi-w{number}) serves what an earlier daemon told it"
                assert told in done.stderr, done
                assert site.daemon.log().count(told) == 1
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
        processes.await_end(pids, WAIT_S)
        assert site.daemon.outcome(commit) == "applied"
        assert site.everywhere("main.test") == {"blue"}
        assert site.daemon.ask("status")["warnings"] == []


CASES: dict[str, Callable[[Site], None]] = {
    case.__name__: case
    for case in (
        looked_for_too_often,
        lost_and_stopped,
        beyond_the_wanted,
        told_to_end,
        bound_elsewhere,
    )
}


@pytest.mark.parametrize("case", CASES)
def test_they_are_known_when(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
