"""The state directory loses what it recorded, and no worker lives that could tell: a power cut.

What was applied comes back from the repository. History, drains and the followed branch do not: the
log and `status` say so.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.site import Site

_FRAME = 24 + 4096


def files(site: Site, backend: str) -> dict[str, Any]:
    clusters = {"main": [backend], "other": ["blue"]}
    return {"kakehi.yaml": site.document(clusters, {"main": "main", "other": "other"})}


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)


def early_in_the_log(directory: Path) -> None:
    log = directory / "state.db-wal"
    flipped(log, log.stat().st_size // 8)


def at_the_drain(directory: Path) -> None:
    """The last transaction but one; the last is that of the history."""
    flipped(directory / "state.db-wal", 100 + ends(directory)[-2])


def at_the_end(directory: Path) -> None:
    flipped(directory / "state.db-wal", 100 + ends(directory)[-1])


def ends(directory: Path) -> list[int]:
    """Where the frames lie by which transactions end."""
    log = (directory / "state.db-wal").read_bytes()
    return [place for place in range(32, len(log), _FRAME) if any(log[place + 4 : place + 8])]


def without_log(directory: Path) -> None:
    (directory / "state.db-wal").unlink()


def without_database(directory: Path) -> None:
    (directory / "state.db").unlink()


def empty_database(directory: Path) -> None:
    for path in directory.glob("state.db*"):
        path.write_bytes(b"")


def cut(directory: Path) -> None:
    """Behind the second commit, which is the header's last place but two."""
    found = ends(directory)
    os.truncate(directory / "state.db-wal", found[len(found) // 2] + _FRAME)


EMPTY = "holds no commit, though refs/kakehi/applied of the repository names"
ALL = "its history, its drains and which branch was followed"
CASES: dict[Callable[[Path], object], tuple[str, ...]] = {
    early_in_the_log: (EMPTY, ALL, "the log of the state database is damaged"),
    at_the_drain: ("the log of the state database is damaged", "commits, drains, history"),
    at_the_end: ("the last transaction in the log of the state database is not whole",),
    without_log: (EMPTY, ALL),
    without_database: (EMPTY, ALL),
    empty_database: (EMPTY, ALL),
    shutil.rmtree: (EMPTY, ALL),
    cut: ("is older than the repository's refs/kakehi/applied", "history and drains since then"),
}


@pytest.mark.parametrize("damage", CASES, ids=lambda each: each.__name__)
def test_what_a_record_has_lost_is_told(damage: Callable[[Path], object], tmp_path: Path) -> None:
    with Site(tmp_path, workers=1) as site:
        site.start(files(site, "red"))
        for backend in ("blue", "red"):
            site.commit(files(site, backend))
        assert site.daemon.run_cli("drain", "other/b0", "--for", "2h").returncode == 0
        workers = site.worker_pids()
        os.kill(site.daemon.pid, signal.SIGKILL)
        site.daemon.await_end()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        before = site.daemon.log()
        damage(site.daemon.state_dir)
        site.daemon.return_()
        log, warnings = site.daemon.log()[len(before) :], site.daemon.ask("status")["warnings"]
        for said in CASES[damage]:
            assert said in log
            assert any(said in each for each in warnings)
        assert "tickets are damaged" not in log
        assert site.everywhere("main.test") == {"red"}


def test_a_log_that_is_gone_is_told_where_the_commit_is_the_same(tmp_path: Path) -> None:
    """The drain was in it alone: the file has all of before the start."""
    with Site(tmp_path, workers=1) as site:
        site.start(files(site, "red"))
        for number in (signal.SIGTERM, signal.SIGKILL):
            site.daemon.leave(number)
            site.daemon.return_()
            # What was closed or is there is not told of.
            assert site.daemon.ask("status")["warnings"] == []
        site.daemon.leave(signal.SIGTERM)
        site.daemon.return_()
        assert site.daemon.run_cli("drain", "other/b0", "--for", "2h").returncode == 0
        [worker] = site.worker_pids()
        site.daemon.leave()
        os.kill(worker, signal.SIGKILL)
        without_log(site.daemon.state_dir)
        site.daemon.return_()
        [warning] = site.daemon.ask("status")["warnings"]
        assert "the log of the state database is gone" in warning


def test_what_workers_cannot_tell_is_told(tmp_path: Path) -> None:
    """They hold the state, and know nothing of the history."""
    with Site(tmp_path, workers=1) as site:
        site.start(files(site, "red"))
        site.daemon.leave()
        shutil.rmtree(site.daemon.state_dir)
        site.daemon.return_()
        [warning] = site.daemon.ask("status")["warnings"]
        assert "held nothing" in warning
        assert "its history" in warning
        assert "which branch was followed (now main)" in warning
