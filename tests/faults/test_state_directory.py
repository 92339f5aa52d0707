"""The disk and the lock fail: F11 to F13.

What was recorded before the fault is served, and what git says comes on top of it by itself.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.faults.scene import Scene
from tests.harness import processes
from tests.harness.daemon import stopped
from tests.harness.load import OpenLoop
from tests.harness.rawclient import Connection
from tests.harness.site import Daemon, Site


def files(site: Site, backend: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}


# F11: the log of the database is torn


def cut_three_bytes(content: bytes) -> bytes:
    return content[:-3]


def cut_to_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    place = len(content) - 40
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def zeros_behind(content: bytes) -> bytes:
    return content + bytes(4096)


def torn(damage: Callable[[bytes], bytes], site: Site) -> None:
    """Whatever was lost, the repository has it."""
    site.start(files(site, "red"))
    for backend in ("blue", "red", "blue"):
        site.commit(files(site, backend))
    generation, digest = site.running()
    site.daemon.kill()
    site.daemon.await_end()
    log = site.daemon.state_dir / "state.db-wal"
    log.write_bytes(damage(log.read_bytes()))
    site.daemon.return_()
    assert site.running()[1] == digest == site.committed_digest()
    assert site.running()[0] <= generation + 1
    assert site.everywhere("main.test") == {"blue"}


# F12: the disk takes no record


def unwritable(point: str, site: Site) -> None:
    """Nothing changes, status says why, and it is tried again until it can be."""
    with Scene(site, KAKEHI_FAULT=f"{point}:raise:2") as scene:
        running = site.running()
        sha = scene.commit()
        processes.wait_until(lambda: site.daemon.ask("status")["last_error"], "it is told", 60)
        error = site.daemon.ask("status")["last_error"]
        assert (error["commit"], error["stage"]) == (sha, "journal")
        assert site.running() == running
        scene.check_before()
        site.wait(sha)
        scene.check_after()
        scene.check_load()


# F13: two reconcilers


def second_is_refused(site: Site) -> None:
    site.start(files(site, "red"))
    before, workers = site.running(), site.identity()
    for shared in ("runtime_dir", "state_dir"):
        second = Daemon(site.repo, workers=2)
        setattr(second, shared, getattr(site.daemon, shared))
        try:
            second.start(wait=False)
            assert second.await_end() == 1
            [line] = second.log().strip().splitlines()
            assert str(getattr(site.daemon, shared)) in line
            assert str(site.daemon.pid) in line
        finally:
            shutil.rmtree(second.base, ignore_errors=True)
    assert site.running() == before
    assert site.identity() == workers
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}


def newer_takes_over(site: Site) -> None:
    """With the lock defeated, the epoch decides."""
    site.start(files(site, "red"))
    workers = site.identity()
    with OpenLoop(site.address, ["main.test"], site.directory / "load", rate=100, fresh=2) as load:
        # As after a restore from a backup: the lock files are others than those that are held.
        first, second = site.daemon, Daemon(site.repo, workers=2)
        shutil.copytree(first.state_dir, second.state_dir)
        second.runtime_dir = first.runtime_dir
        assert first.process is not None
        site.daemon = second
        try:
            # The first one would notice within a second, and take the lock anew.
            with stopped(first.process.pid):
                (first.runtime_dir / "lock").unlink()
                second.start(wait=False)
                processes.wait_until(lambda: "kakehi runs" in second.log(), "it has the lock")
            second.wait_ready()
            first.await_end()
            assert site.identity() == workers
            assert "newer" in first.log()
            site.commit(files(site, "blue"))
            assert site.everywhere("main.test") == {"blue"}
            assert site.running()[1] == site.committed_digest()
            load.stop()
        finally:
            shutil.rmtree(first.base / "state", ignore_errors=True)
            second.stop()
            site.daemon = first
    assert load.failures == []
    assert load.closed == []


def state_is_lost(site: Site) -> None:
    site.start(files(site, "red"))
    site.commit(files(site, "blue"))
    site.daemon.leave(signal.SIGTERM)
    shutil.rmtree(site.daemon.state_dir)
    site.daemon.return_()
    assert site.everywhere("main.test") == {"blue"}
    assert site.running()[1] == site.committed_digest()
    with Connection(site.address) as client:
        assert client.get("main.test").body == b"blue"


CASES: dict[str, Callable[[Site], None]] = {
    "the commit record cannot be written": partial(unwritable, "journal.commit"),
    **{
        f"the log of the database: {damage.__name__}": partial(torn, damage)
        for damage in (cut_three_bytes, cut_to_half, flip_a_bit, zeros_behind)
    },
    "a second reconciler": second_is_refused,
    "a second reconciler, and no lock": newer_takes_over,
    "the state directory is gone": state_is_lost,
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_recorded_is_served_when(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
