"""A worker dies or stands still at a named point of a transaction: F4, F5, F6 and F7 (T44).

Before the commit record its death aborts the attempt, and the commit is tried again with its
successor. Behind it the others go on, and the successor starts at the new generation.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults.scene import Scene, check_survivor, transaction, wait_for_delay
from tests.harness import processes
from tests.harness.site import Site


def killed_before_it_has_prepared(site: Site) -> None:
    """F4."""
    with Scene(site) as scene:
        scene.check_before()
        processes.stop(scene.pids[1])
        sha = scene.commit()
        processes.wait_until(
            lambda: transaction(site).get("waiting_for") == [1], "it alone has not prepared"
        )
        assert transaction(site)["phase"] == "preparing"
        # The other one is prepared, and serves what it did.
        assert site.kept("main.test", pids=scene.pids[:1]) == {scene.pids[0]: "red"}
        os.kill(scene.pids[1], signal.SIGKILL)
        site.wait(sha)
        check_survivor(site, scene, 1)
        scene.check_after(same_workers=False)
        scene.check_next()


def killed_once_it_has_prepared(fault: str, victim: int, site: Site) -> None:
    """F5 and F6."""
    with Scene(site, KAKEHI_FAULT=fault) as scene:
        sha = scene.commit()
        wait_for_delay(site)
        os.kill(scene.pids[victim], signal.SIGKILL)
        site.wait(sha)
        check_survivor(site, scene, victim)
        scene.check_after(same_workers=False)
        [newest] = site.history()
        assert (newest["commit"], newest["outcome"]) == (sha, "applied")
        scene.check_next()


def every_worker_killed(site: Site) -> None:
    """F6, with nobody left who has it."""
    with Scene(site, KAKEHI_FAULT="commit.sent:delay:3") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        for pid in scene.pids:
            os.kill(pid, signal.SIGKILL)
        site.wait(sha)
        assert not set(site.worker_pids()) & set(scene.pids)
        scene.check_after(same_workers=False)
        scene.check_next()


def stopped_before_it_commits_and_resumed(site: Site) -> None:
    """F7: the others have committed, status says who has not, and it follows when it can."""
    with Scene(site, KAKEHI_FAULT="journal.commit:delay:2") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        processes.stop(scene.pids[1])
        processes.wait_until(
            lambda: transaction(site).get("waiting_for") == [1], "the other one has committed"
        )
        status = site.daemon.ask("status")
        assert status["transaction"]["phase"] == "committing"
        assert [worker["state"] for worker in status["workers"]] == ["running", "behind"]
        done = site.daemon.run_cli("wait", "--commit", sha, "--timeout", "100ms")
        assert (done.returncode, "worker 1" in done.stderr) == (8, True), done
        processes.resume(scene.pids[1])
        site.wait(sha)
        scene.check_after()
        scene.check_load()


def stopped_in_prepare_for_too_long(site: Site) -> None:
    """F7: the attempt is aborted, the worker replaced, and the commit tried again."""
    with Scene(site) as scene:
        processes.stop(scene.pids[1])
        site.wait(scene.commit())
        check_survivor(site, scene, 1)
        scene.check_after(same_workers=False)
        scene.check_next()


def stopped_in_commit_for_too_long(site: Site) -> None:
    """F7: the others commit; the worker is replaced by one that starts at the new generation."""
    with Scene(site, KAKEHI_FAULT="journal.commit:delay:2") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        processes.stop(scene.pids[1])
        site.wait(sha)
        check_survivor(site, scene, 1)
        scene.check_after(same_workers=False)
        scene.check_next()


# The longest first: the others fit beside it.
CASES: dict[str, Callable[[Site], None]] = {
    "stopped in prepare for too long": stopped_in_prepare_for_too_long,
    "stopped in commit for too long": stopped_in_commit_for_too_long,
    "stopped in commit and resumed": stopped_before_it_commits_and_resumed,
    "killed before it has prepared": killed_before_it_has_prepared,
    "killed before the decision": partial(killed_once_it_has_prepared, "journal.commit:delay:2", 1),
    "killed with its answer unread": partial(killed_once_it_has_prepared, "commit.sent:delay:3", 0),
    "killed before it is told": partial(killed_once_it_has_prepared, "commit.sent:delay:3", 1),
    "killed before the release": partial(killed_once_it_has_prepared, "release.sent:delay:3", 1),
    "all killed": every_worker_killed,
}


@pytest.mark.parametrize("case", CASES)
def test_a_worker_that(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
