"""A worker dies or stands still at a named point of a transaction: F4, F5, F6 and F7.

Before the commit record its death aborts the attempt, and the commit is tried again with its
successor. Behind it the others go on, and the successor starts at the new generation.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import Scene
from tests.harness import processes
from tests.harness.site import Site


def transaction(site: Site) -> dict[str, Any]:
    """The open transaction, empty when there is none."""
    opened: dict[str, Any] | None = site.daemon.ask("status")["transaction"]
    return opened or {}


def wait_for_delay(site: Site) -> None:
    """Wait until the reconciler sleeps at its fault point; it does so for a second."""
    processes.wait_until(
        lambda: processes.is_asleep(site.daemon.pid), "the reconciler is at its fault point"
    )


def check_survivor(site: Site, scene: Scene, victim: int) -> None:
    """The victim is another process now, in the same place; the other one is what it was."""
    now = site.worker_pids()
    assert [pid == before for pid, before in zip(now, scene.pids, strict=True)] == [
        number != victim for number in range(len(now))
    ]
    survivor = scene.pids[1 - victim]
    assert site.identity()[survivor][0] == scene.workers[survivor][0]


def test_killed_before_it_has_prepared(site: Site, tmp_path: Path) -> None:
    with Scene(site, tmp_path) as scene:
        scene.check_before()
        processes.stop(scene.pids[1])
        sha = scene.commit()
        processes.wait_until(
            lambda: transaction(site).get("waiting_for") == [1], "it alone has not prepared"
        )
        assert transaction(site)["phase"] == "preparing"
        # The other one is prepared, and serves what it did.
        assert scene.site.kept("main.test", pids=scene.pids[:1]) == {scene.pids[0]: "red"}
        os.kill(scene.pids[1], signal.SIGKILL)
        site.wait(sha)
        check_survivor(site, scene, 1)
        scene.check_after(same_workers=False)
        scene.check_next()


@pytest.mark.parametrize(
    ("fault", "victim"),
    [
        # All have prepared, and the decision is not written yet (F5).
        ("journal.commit:delay:2", 1),
        # It has been told to commit, and its answer is not read yet (F6).
        ("commit.sent:delay:3", 0),
        # It has not been told yet, and the other one has (F6).
        ("commit.sent:delay:3", 1),
        # What was removed is about to be drained.
        ("release.sent:delay:3", 1),
    ],
)
def test_killed_once_it_has_prepared(site: Site, tmp_path: Path, fault: str, victim: int) -> None:
    with Scene(site, tmp_path, KAKEHI_FAULT=fault) as scene:
        sha = scene.commit()
        wait_for_delay(site)
        os.kill(scene.pids[victim], signal.SIGKILL)
        site.wait(sha)
        check_survivor(site, scene, victim)
        scene.check_after(same_workers=False)
        newest = site.history()[0]
        assert (newest["commit"], newest["outcome"]) == (sha, "applied")
        scene.check_next()


def test_stopped_before_it_commits_and_resumed(site: Site, tmp_path: Path) -> None:
    with Scene(site, tmp_path, KAKEHI_FAULT="journal.commit:delay:2") as scene:
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


def test_stopped_for_longer_than_anybody_waits(tmp_path: Path) -> None:
    """In prepare and in commit; side by side, since each waits for deadlines of seconds."""

    def prepare(directory: Path) -> None:
        with Site(directory, ["steady", "red", "blue"]) as site, Scene(site, directory) as scene:
            processes.stop(scene.pids[1])
            site.wait(scene.commit())
            check_survivor(site, scene, 1)
            scene.check_after(same_workers=False)
            scene.check_next()

    def commit(directory: Path) -> None:
        with (
            Site(directory, ["steady", "red", "blue"]) as site,
            Scene(site, directory, KAKEHI_FAULT="journal.commit:delay:2") as scene,
        ):
            sha = scene.commit()
            wait_for_delay(site)
            processes.stop(scene.pids[1])
            site.wait(sha)
            check_survivor(site, scene, 1)
            scene.check_after(same_workers=False)
            scene.check_next()

    cases: list[Callable[[Path], None]] = [prepare, commit]
    with ThreadPoolExecutor(len(cases)) as pool:
        for future in [pool.submit(case, tmp_path / case.__name__) for case in cases]:
            future.result(120)


def test_every_worker_killed_in_the_middle(site: Site, tmp_path: Path) -> None:
    with Scene(site, tmp_path, KAKEHI_FAULT="commit.sent:delay:3") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        for pid in scene.pids:
            os.kill(pid, signal.SIGKILL)
        site.wait(sha)
        assert not set(site.worker_pids()) & set(scene.pids)
        scene.check_after(same_workers=False)
        scene.check_next()
