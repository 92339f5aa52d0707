"""The disk and the lock fail: F11 to F13.

What was recorded before the fault is served, and what git says comes on top of it by itself.
"""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.harness import processes
from tests.harness.load import OpenLoop
from tests.harness.rawclient import Connection
from tests.harness.site import Daemon, Site


def files(site: Site, backend: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}


# F11: the journal is torn


def cut_three_bytes(content: bytes) -> bytes:
    return content[:-3]


def cut_to_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    place = len(content) - 40
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def zeros_behind(content: bytes) -> bytes:
    return content + bytes(4096)


DAMAGES = [cut_three_bytes, cut_to_half, flip_a_bit, zeros_behind]


def test_a_torn_journal_is_a_shorter_one(site: Site) -> None:
    site.start(files(site, "red"))
    for damage in DAMAGES:
        for backend in ("red", "blue", "red", "blue"):
            site.commit(files(site, backend))
        generation, digest = site.running()
        site.daemon.kill()
        site.daemon.await_end()
        journal = site.daemon.state_dir / "journal"
        journal.write_bytes(damage(journal.read_bytes()))
        site.daemon.return_()
        # Whatever was lost, the repository has it.
        assert site.running()[1] == digest == site.committed_digest(), damage.__name__
        assert site.running()[0] <= generation + 1
        assert site.everywhere("main.test") == {"blue"}


# F12: the disk does not take a record


def test_a_record_that_cannot_be_written_changes_nothing_and_is_tried_again(
    tmp_path: Path,
) -> None:
    """Begin and commit record, side by side: trying again takes seconds."""

    def fails_at(point: str) -> None:
        directory = tmp_path / point
        with Site(directory, ["red", "blue"]) as site:
            site.start(files(site, "red"), KAKEHI_FAULT=f"{point}:raise:2")
            workers = site.identity()
            running = site.running()
            with OpenLoop(
                site.address, ["main.test"], directory / "load", rate=50, fresh=1
            ) as load:
                sha = site.repo.commit(files(site, "blue"))
                processes.wait_until(lambda: site.daemon.ask("status")["last_error"], "it is told")
                error = site.daemon.ask("status")["last_error"]
                assert (error["commit"], error["stage"]) == (sha, "journal")
                assert site.running() == running
                assert site.everywhere("main.test") == {"red"}
                site.wait(sha)
                load.stop()
            assert load.failures == []
            assert site.daemon.ask("status")["last_error"] is None
            assert site.everywhere("main.test") == {"blue"}
            assert site.running() == (running[0] + 1, site.committed_digest())
            assert site.identity() == workers

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fails_at, ["journal.begin", "journal.commit"]))


# F13: two reconcilers


def test_a_second_reconciler_is_refused_by_the_lock(site: Site) -> None:
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


def test_with_the_lock_defeated_the_newer_reconciler_takes_the_workers(
    site: Site, tmp_path: Path
) -> None:
    site.start(files(site, "red"))
    workers = site.identity()
    with OpenLoop(site.address, ["main.test"], tmp_path / "load", rate=100, fresh=2) as load:
        # As after a restore from a backup: the lock files are others than those that are held.
        first, second = site.daemon, Daemon(site.repo, workers=2)
        shutil.copytree(first.state_dir, second.state_dir)
        second.runtime_dir = first.runtime_dir
        (first.runtime_dir / "lock").unlink()
        site.daemon = second
        try:
            second.start()
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


def test_a_state_directory_that_is_lost_is_read_from_the_repository_anew(site: Site) -> None:
    site.start(files(site, "red"))
    site.commit(files(site, "blue"))
    site.daemon.leave(signal.SIGTERM)
    shutil.rmtree(site.daemon.state_dir)
    site.daemon.return_()
    assert site.everywhere("main.test") == {"blue"}
    assert site.running()[1] == site.committed_digest()
    with Connection(site.address) as client:
        assert client.get("main.test").body == b"blue"
