"""Descriptors run out while listeners are opened: the commit is refused, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.harness import ports, processes
from tests.harness.site import Site

LISTENERS = 60


def files(site: Site, backend: str, listeners: int = 0) -> dict[str, Any]:
    document = site.document({"main": [backend]}, {"main": "main"})
    more = {f"more-{number}": {"address": ports.address()} for number in range(listeners)}
    return {"kakehi.yaml": document, "more.yaml": {"listeners": more}}


def used(site: Site) -> int:
    return len(os.listdir(f"/proc/{site.daemon.pid}/fd"))


def runs_out(free: int, site: Site) -> None:
    """With so many descriptors left, of which a daemon keeps some for itself."""
    site.settings["admin"] = ports.address()
    site.start(files(site, "red"))
    for number in range(3):
        site.commit(files(site, "red" if number % 2 else "blue"))
    site.commit(files(site, "red"))
    before = used(site)
    _, hard = resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir(f"/proc/{site.daemon.pid}/fd"))) + 1 + free
    resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE, (limit, hard))
    generation, _ = site.running()
    for _ in range(3):
        refused = site.repo.commit(files(site, "blue", LISTENERS))
        assert site.daemon.outcome(refused) == "refused"
        error = site.daemon.ask("status")["last_error"]
        assert "too many open files" in error["message"], error
        assert "more.yaml" in error["message"]
        assert site.running()[0] == generation
        assert site.everywhere("main.test") == {"red"}
    assert used(site) <= before + 8, "what was opened in vain is closed"
    # The one that takes it back is seen, and so is whatever comes then.
    site.wait(site.repo.commit(files(site, "blue")))
    assert site.everywhere("main.test") == {"blue"}
    assert "internal error" not in site.daemon.log()
    resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    site.wait(site.repo.commit(files(site, "red", LISTENERS)))
    assert site.everywhere("main.test") == {"red"}
    assert len(site.worker_pids()) == 2


def a_worker_dies(site: Site) -> None:
    """Its successor comes as soon as there are some; until then the log tells the reason."""
    site.start(files(site, "red"))
    pid = site.worker_pids()[0]
    _, hard = resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE, (used(site), hard))
    os.kill(pid, signal.SIGKILL)
    log = site.daemon.log
    processes.wait_until(lambda: "oo many open files" in log(), "it is told", 20)
    processes.pause(4)
    assert "internal error while supervising" not in log()
    resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    processes.wait_until(lambda: site.worker_pids()[0] not in (0, pid), "another one comes", 40)
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}


CASES: dict[str, Callable[[Site], None]] = {
    "few": partial(runs_out, 90),
    "hardly any": partial(runs_out, 20),
    "none as a worker dies": a_worker_dies,
}


@pytest.mark.parametrize("case", CASES)
def test_descriptors_that_are(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
