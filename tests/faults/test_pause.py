"""The daemon is paused (SIGSTOP, a suspended machine) at a point where it waits for answers (T44).

They have come meanwhile: no healthy worker is replaced, and no request is lost.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults.scene import Scene, wait_for_delay
from tests.harness import processes
from tests.harness.site import Site


def paused(point: str, seconds: float, site: Site) -> None:
    """Longer than the deadline of that phase."""
    with Scene(site, KAKEHI_FAULT=f"{point}:delay:4") as scene:
        sha = scene.commit()
        wait_for_delay(site)
        processes.stop(site.daemon.pid)
        processes.pause(seconds)
        processes.resume(site.daemon.pid)
        site.wait(sha)
        scene.check_after()
        scene.check_load()
        assert "in time" not in site.daemon.log()
        assert "trying again" not in site.daemon.log()


def paused_while_it_adopts(site: Site) -> None:
    """A new daemon has said hello, and is paused before it reads the welcomes."""
    with Scene(site) as scene:
        site.daemon.leave(signal.SIGTERM)
        for pid in scene.pids:
            processes.stop(pid)
        site.daemon.return_(wait=False)
        processes.wait_until(lambda: "kakehi runs" in site.daemon.log().split("leaves")[-1], "runs")
        processes.wait_until(lambda: greeted(site), "it has greeted them")
        processes.stop(site.daemon.pid)
        for pid in scene.pids:
            processes.resume(pid)
        processes.pause(6.5)
        processes.resume(site.daemon.pid)
        site.daemon.wait_ready()
        assert site.worker_pids() == scene.pids
        scene.check_load()


def greeted(site: Site) -> bool:
    """Whether the daemon has connected to both workers: its sockets beside the control socket."""
    return "cannot be adopted" in site.daemon.log() or (
        len(processes.socket_inodes(site.daemon.pid)) >= 4
    )


CASES: dict[str, Callable[[Site], None]] = {
    "while workers prepare": partial(paused, "prepare.sent", 12.0),
    "while workers commit": partial(paused, "commit.sent", 6.5),
    "while workers release": partial(paused, "release.sent", 6.5),
    "while it adopts": paused_while_it_adopts,
}


@pytest.mark.parametrize("case", CASES)
def test_a_daemon_that_is_paused(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
