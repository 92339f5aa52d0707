"""A worker hangs while nobody commits anything: it is noticed, told, and replaced."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.harness import ports, processes
from tests.harness.site import Site

TOLD_WITHIN_S = 10.0
REPLACED_WITHIN_S = 45.0


def start(site: Site, **environment: str) -> list[int]:
    site.settings["admin"] = ports.address()
    document = site.document({"main": ["red"]}, {"main": "main"})
    site.start({"kakehi.yaml": document}, **environment)
    assert healthz(site)[0] == 200
    return site.worker_pids()


def healthz(site: Site) -> tuple[int, str]:
    try:
        url = f"http://{site.settings['admin']}/healthz"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def worker(site: Site, number: int) -> dict[str, Any]:
    found: dict[str, Any] = site.daemon.ask("status")["workers"][number]
    return found


def hangs_for_good(site: Site) -> None:
    pids = start(site)
    processes.stop(pids[1])
    began = time.monotonic()
    processes.wait_until(lambda: healthz(site)[0] == 503, "/healthz tells", TOLD_WITHIN_S)
    assert "worker 1 does not answer" in healthz(site)[1]
    assert worker(site, 1)["state"] == "silent"
    assert time.monotonic() - began < TOLD_WITHIN_S
    said = site.daemon.run_cli("status", check=True).stdout
    assert "worker 1: it does not answer" in said
    processes.wait_until(
        lambda: worker(site, 1)["pid"] not in (0, pids[1]), "it is replaced", REPLACED_WITHIN_S
    )
    processes.wait_until(lambda: healthz(site)[0] == 200, "all is well")
    assert worker(site, 0)["pid"] == pids[0]
    assert site.everywhere("main.test") == {"red"}
    assert site.daemon.log().count("a worker does not answer") == 1


def hangs_as_a_commit_comes(pause_s: float, site: Site) -> None:
    pids = start(site)
    processes.pause(pause_s)
    processes.stop(pids[1])
    began = time.monotonic()
    site.repo.commit({"kakehi.yaml": site.document({"main": ["blue"]}, {"main": "main"})})
    processes.wait_until(lambda: healthz(site)[0] == 503, "/healthz tells", TOLD_WITHIN_S)
    assert time.monotonic() - began < TOLD_WITHIN_S
    assert "worker 1 does not answer" in healthz(site)[1]
    assert "worker 1: it does not answer" in site.daemon.run_cli("status", check=True).stdout
    processes.wait_until(
        lambda: worker(site, 1)["pid"] not in (0, pids[1]), "it is replaced", REPLACED_WITHIN_S
    )
    processes.wait_until(lambda: healthz(site)[0] == 200, "all is well")
    processes.wait_until(lambda: site.everywhere("main.test") == {"blue"}, "it is applied", 40)


def hangs_for_a_while(site: Site) -> None:
    pids = start(site)
    processes.stop(pids[0])
    processes.wait_until(lambda: worker(site, 0)["state"] == "silent", "it is told", TOLD_WITHIN_S)
    processes.resume(pids[0])
    processes.wait_until(lambda: healthz(site)[0] == 200, "it answers again")
    assert worker(site, 0)["state"] == "running"
    assert site.worker_pids() == pids
    assert site.everywhere("main.test") == {"red"}


def only_the_daemon_was_away(site: Site) -> None:
    """For longer than a worker may be silent."""
    pids = start(site)
    for _ in range(2):
        processes.stop(site.daemon.pid)
        processes.pause(12)
        processes.resume(site.daemon.pid)
        assert healthz(site)[0] == 200
    processes.pause(3)
    assert site.worker_pids() == pids
    assert "does not answer" not in site.daemon.log()


CASES: dict[str, Callable[[Site], None]] = {
    "hangs for good": hangs_for_good,
    "hangs as a commit comes": partial(hangs_as_a_commit_comes, 0.0),
    "hangs as a commit comes, later": partial(hangs_as_a_commit_comes, 1.6),
    "hangs for a while": hangs_for_a_while,
    "is well while the daemon was away": only_the_daemon_was_away,
}


@pytest.mark.parametrize("case", CASES)
def test_a_worker_that(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
