"""A change of several chunks is interrupted in the middle: F4, F7 and F8 between two chunks.

And a worker that takes the whole state in holds nobody up, however long it takes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.scene import Scene, check_survivor, transaction, wait_for_delay
from tests.harness import processes
from tests.harness.site import Site

# With a backend each: six chunks.
CLUSTERS = 1500
# The first start of a site is one chunk; this is in the middle of the next transaction.
MIDDLE = 4
# Commits wait for the last step of a newcomer for 2 s, and then for nothing more of it.
LAST_STEP_S = 2.5


class LargeScene(Scene):
    """The change has more than one message could bear."""

    def _files(self, backend: str) -> dict[str, Any]:
        return {
            **super()._files(backend),
            "many.yaml": clusters(CLUSTERS if backend == "blue" else 1),
        }


def clusters(count: int) -> dict[str, Any]:
    backends = {"b": {"address": "127.0.0.1:9"}}
    return {"clusters": {f"c{number}": {"backends": backends} for number in range(count)}}


def daemon_dies(site: Site) -> None:
    with LargeScene(site, KAKEHI_FAULT=f"chunk.sent:crash:{MIDDLE}") as scene:
        scene.commit()
        assert site.daemon.await_end() == -signal.SIGKILL
        scene.load.wait_for(20)
        scene.check_before()
        site.daemon.return_()
        scene.check_after()
        scene.check_load()
        scene.check_next()


def daemon_cannot_send(site: Site) -> None:
    """What has come of it is taken back at all workers, and it is tried again."""
    with LargeScene(site, KAKEHI_FAULT=f"chunk.sent:raise:{MIDDLE}") as scene:
        site.wait(scene.commit())
        assert "cannot send the change" in site.daemon.log()
        scene.check_after()
        scene.check_load()
        scene.check_next()


def worker_dies(site: Site) -> None:
    with LargeScene(site, KAKEHI_FAULT=f"chunk.sent:delay:{MIDDLE}") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        os.kill(scene.pids[1], signal.SIGKILL)
        site.wait(sha)
        check_survivor(site, scene, 1)
        scene.check_after(same_workers=False)
        scene.check_next()


def worker_stands_still(site: Site) -> None:
    with LargeScene(site, KAKEHI_FAULT=f"chunk.sent:delay:{MIDDLE}") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        processes.stop(scene.pids[1])
        site.wait(sha)
        check_survivor(site, scene, 1)
        scene.check_after(same_workers=False)
        scene.check_next()


def worker_stands_still_and_goes_on(site: Site) -> None:
    with LargeScene(site, KAKEHI_FAULT=f"chunk.sent:delay:{MIDDLE}") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        processes.stop(scene.pids[1])
        processes.wait_until(
            lambda: transaction(site).get("phase") == "preparing", "it is under way", 30
        )
        processes.resume(scene.pids[1])
        site.wait(sha)
        scene.check_after()
        scene.check_load()
        scene.check_next()


def stopped_newcomer(site: Site, second: int) -> int:
    """Kill the second worker, and stop its successor while that takes the state in."""

    def state() -> dict[str, Any]:
        worker: dict[str, Any] = site.daemon.ask("status")["workers"][1]
        return worker

    def is_given_up(pid: int) -> bool:
        until = time.monotonic() + LAST_STEP_S
        while time.monotonic() < until:
            if state()["pid"] != pid:
                return True
            time.sleep(0.05)
        return False

    for _ in range(20):
        os.kill(second, signal.SIGKILL)
        processes.wait_until(lambda former=second: state()["pid"] not in (0, former), "another")
        pid = int(state()["pid"])
        processes.stop(pid)
        if state()["state"] == "starting" and not is_given_up(pid):
            return pid
        # It has been too quick: it is in service, or was in its last step and is replaced.
        with contextlib.suppress(ProcessLookupError):
            processes.resume(pid)
        processes.wait_until(lambda: state()["state"] == "running", "it is in service")
        second = int(state()["pid"])
    raise AssertionError("a newcomer is in service before it can be stopped")


def newcomer_stands_still(site: Site) -> None:
    """Commits go on with the others; it has them all when it comes into service."""
    # It takes a while to take the state in, and meanwhile it is stopped.
    document = site.document({"main": ["red"]}, {"main": "main"})
    site.start({"kakehi.yaml": document, "many.yaml": clusters(CLUSTERS)})
    first, second = site.worker_pids()
    # Fresh connections may wait in the socket of the other one for its successor.
    assert set(site.kept("main.test", pids=[first, second]).values()) == {"red"}
    pid = stopped_newcomer(site, second)
    generation = int(site.daemon.ask("status")["generation"])
    for number, backend in enumerate(("blue", "red", "blue"), 1):
        site.repo.commit({"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})})
        processes.wait_until(
            lambda wanted=generation + number: (
                site.daemon.ask("status")["workers"][0]["generation"] == wanted
            ),
            "the other one goes on",
            5,
        )
        assert site.kept("main.test", pids=[first]) == {first: backend}
    processes.resume(pid)
    site.wait("HEAD")
    assert site.running()[1] == site.committed_digest()
    assert site.everywhere("main.test") == {"blue"}


CASES: dict[str, Callable[[Site], None]] = {
    "worker stands still": worker_stands_still,
    "worker stands still and goes on": worker_stands_still_and_goes_on,
    "worker dies": worker_dies,
    "daemon dies": daemon_dies,
    "daemon cannot send": daemon_cannot_send,
    "newcomer stands still": newcomer_stands_still,
}


@pytest.mark.parametrize("case", CASES)
def test_in_the_middle_of_a_stream(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
