"""The reconciler dies at a named point of a transaction; F8, F9 and F10 of the failure table.

Before the commit record the transaction has not happened, behind it it has; in both cases the next
daemon makes it happen once, on the workers that never stopped serving.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.faults.scene import Scene
from tests.harness.site import Site

# The first start of a site is a transaction too, on two workers: these counts are behind it.
BEFORE_THE_COMMIT_POINT = [
    "transaction.begin:crash:2",
    "prepare.sent:crash:3",
    "journal.commit:crash:2",
]
BEHIND_THE_COMMIT_POINT = [
    "commit.sent:crash:3",
    "commit.sent:crash:4",
    "release.sent:crash:3",
    "journal.done:crash:2",
]


def crash(fault: str, site: Site) -> None:
    """Nothing is lost, and nobody notices."""
    with Scene(site, KAKEHI_FAULT=fault) as scene:
        scene.commit()
        assert site.daemon.await_end() == -signal.SIGKILL
        scene.load.wait_for(20)
        if fault in BEFORE_THE_COMMIT_POINT:
            scene.check_before()
        site.daemon.return_()
        scene.check_after()
        scene.check_load()
        scene.check_next()


def crash_in_an_abort(site: Site) -> None:
    """It dies while it takes a refused commit back."""
    with Scene(site, KAKEHI_FAULT="abort.sent:crash:1") as scene:
        whole = site.document({"steady": ["steady"]}, {"steady": "steady"})
        missing = f"{site.directory}/missing/access.log"
        whole["settings"] = {**site.settings, "access_log": missing}
        bad = site.repo.commit({"kakehi.yaml": whole}, "bad")
        assert site.daemon.await_end() == -signal.SIGKILL
        scene.check_before()
        site.daemon.return_(wait=False)
        site.daemon.refusal(bad)
        assert site.running()[0] == scene.generation
        scene.check_before()
        scene.commit()
        site.wait("HEAD")
        scene.check_after()
        scene.check_load()


def crash_at_a_checkpoint(fault: str, site: Site) -> None:
    """The log outgrows its bound by error pages, which are what an entity can be full of."""
    page = {"body": "<p>" + "x" * 60_000 + "</p>"}

    def full(count: int) -> dict[str, Any]:
        pages = {str(status): page for status in range(400, 400 + count)}
        listener = {"address": site.address, "error_pages": pages}
        whole = site.document({"main": ["red"]}, {"main": "main"})
        return {"kakehi.yaml": {**whole, "listeners": {"main": listener}}}

    site.start(full(1), KAKEHI_FAULT=fault)
    workers = site.identity()
    crashed = any(site.daemon.ends_before(site.repo.commit(full(n))) for n in range(50, 60))
    assert crashed, "there was no checkpoint"
    site.daemon.await_end()
    assert set(site.kept("main.test", pids=list(workers)).values()) == {"red"}
    site.daemon.return_()
    assert site.running()[1] == site.committed_digest()
    assert site.identity() == workers
    site.commit({"kakehi.yaml": site.document({"main": ["blue"]}, {"main": "main"})})
    assert site.everywhere("main.test") == {"blue"}
    # And from what is on the disk alone.
    site.daemon.kill()
    site.daemon.await_end()
    site.daemon.return_()
    assert site.running()[1] == site.committed_digest()
    assert site.everywhere("main.test") == {"blue"}


CASES: dict[str, Callable[[Site], None]] = {
    **{
        fault: partial(crash_at_a_checkpoint, fault)
        for fault in ("checkpoint.begin:crash:1", "checkpoint.end:crash:1")
    },
    **{fault: partial(crash, fault) for fault in BEFORE_THE_COMMIT_POINT + BEHIND_THE_COMMIT_POINT},
    "abort.sent:crash:1": crash_in_an_abort,
}


@pytest.mark.parametrize("case", CASES)
def test_a_crash_at_any_point_loses_nothing(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
