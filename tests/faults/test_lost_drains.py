"""The state directory has lost drains or has those of before, and workers know better.

An operator who works at a machine relies on it: what workers were told last holds, for all of them,
with owner and end, and can be taken back.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reconciler.storage.kept.drains import Drains
from reconciler.storage.store import Store
from tests.harness import processes
from tests.harness.site import Site


@pytest.fixture
def drained(tmp_path: Path) -> Iterator[Site]:
    """One that runs, with a copy of its state directory from before the drain of `main/b0`."""
    with Site(tmp_path) as site:
        document: Any = site.document({"main": ["red"]}, {"main": "main"})
        site.start({"kakehi.yaml": document})
        copied(site, tmp_path / "before")
        command = ("drain", "main/b0", "--for", "2h", "--owner", "alice")
        assert site.daemon.run_cli(*command).returncode == 0
        assert site.everywhere("main.test") == {"503"}
        yield site


def copied(site: Site, target: Path) -> None:
    """As a backup has it: of a directory that nobody writes to."""
    site.daemon.leave(signal.SIGTERM)
    shutil.copytree(site.daemon.state_dir, target)
    site.daemon.return_()


def restored(site: Site, source: Path) -> None:
    shutil.rmtree(site.daemon.state_dir)
    shutil.copytree(source, site.daemon.state_dir)


def check_drained(site: Site) -> None:
    [drain] = site.daemon.ask("status")["drains"]
    assert (drain["backend"], drain["owner"]) == ("main/b0", "alice")
    assert drain["expires_at"] is not None
    # Whoever comes up later drains as well.
    victim = site.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    processes.wait_until(
        lambda: (
            victim not in site.worker_pids()
            and all(each["state"] == "running" for each in site.daemon.ask("status")["workers"])
        ),
        "it has a successor",
    )
    assert site.everywhere("main.test") == {"503"}
    assert site.daemon.run_cli("undrain", "main/b0").returncode == 0
    assert site.everywhere("main.test") == {"red"}


def told(site: Site) -> str:
    return " ".join(site.daemon.ask("status")["warnings"])


def test_a_lost_state_directory_has_its_drains_from_workers(drained: Site) -> None:
    drained.daemon.leave()
    shutil.rmtree(drained.daemon.state_dir)
    drained.daemon.return_()
    assert "are taken back from workers: main/b0" in told(drained)
    assert "its history and which branch was followed" in told(drained)
    assert "history was lost" in drained.daemon.run_cli("history").stdout
    check_drained(drained)


def test_a_drain_ends_in_time_without_a_daemon_and_stands_once_in_history(drained: Site) -> None:
    pids = drained.worker_pids()

    def answers() -> set[str]:
        return set(drained.kept("main.test", pids=pids).values())

    drained.daemon.run_cli("drain", "main/b0", "--for", "3s", check=True)
    drained.daemon.leave()
    assert answers() == {"503"}
    processes.wait_until(lambda: answers() == {"red"}, "its time is over", 10)
    drained.daemon.return_()
    assert drained.everywhere("main.test") == {"red"}
    told = [each["outcome"] for each in drained.daemon.ask("history")["drains"]]
    assert told.count("expired") == 1
    assert drained.daemon.ask("status")["drains"] == []


def test_what_has_ended_meanwhile_is_not_told_as_taken_back(drained: Site) -> None:
    assert drained.daemon.run_cli("drain", "main/b0", "--for", "2s").returncode == 0
    drained.daemon.leave()
    shutil.rmtree(drained.daemon.state_dir)
    time.sleep(2)
    drained.daemon.return_()
    assert "are taken back from workers: none; meanwhile ended: main/b0" in told(drained)
    processes.wait_until(lambda: drained.everywhere("main.test") == {"red"}, "it has ended")


def test_a_directory_of_before_has_its_drains_from_workers(drained: Site, tmp_path: Path) -> None:
    drained.daemon.leave()
    restored(drained, tmp_path / "before")
    drained.daemon.return_()
    assert "are taken back from workers: main/b0" in told(drained)
    check_drained(drained)


def test_a_drain_that_was_ended_since_does_not_come_back(drained: Site, tmp_path: Path) -> None:
    copied(drained, tmp_path / "while")
    assert drained.daemon.run_cli("undrain", "main/b0").returncode == 0
    drained.daemon.leave()
    restored(drained, tmp_path / "while")
    drained.daemon.return_()
    assert "are taken back from workers: none" in told(drained)
    assert drained.daemon.ask("status")["drains"] == []
    assert drained.everywhere("main.test") == {"red"}


def test_workers_that_were_not_told_any_more_are_told_by_the_next(drained: Site) -> None:
    """A daemon was killed between writing that a drain has ended, and saying so."""
    drained.daemon.leave()
    with closing(Store(drained.daemon.state_dir)) as store:
        drains = Drains(store)
        assert not drains.remove("other/b0")
        assert drains.remove("main/b0")
    drained.daemon.return_()
    assert told(drained) == ""
    assert drained.everywhere("main.test") == {"red"}
