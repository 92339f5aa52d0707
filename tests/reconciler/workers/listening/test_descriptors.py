"""Descriptors that do not suffice are told before anything fails."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from reconciler.workers.listening.descriptors import Reserve, shortages
from tests.harness import ports
from tests.reconciler.live import shop


def test_what_the_limits_are_enough_for() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert shortages(1, 2, {}) == []
    assert shortages(5, 2, {"FDSTORE": "10"}) == []
    assert shortages(5, 2, {"FDSTORE": "nonsense"}) == []
    open_files, in_each = shortages(limit, 1, {})
    assert f"{limit} may be open: raise LimitNOFILE=" in open_files
    assert f"take {3 * limit + 64} descriptors in each worker" in in_each
    # A single worker has more of them than the daemon.
    [in_each] = shortages(limit // 2, 1, {})
    assert "in each worker" in in_each
    [kept] = shortages(3, 4, {"FDSTORE": "11"})
    assert kept.startswith("3 listeners on 4 workers have 12 sockets, and systemd keeps 11 of them")
    assert "FileDescriptorStoreMax=" in kept
    assert len(shortages(limit, 1, {"FDSTORE": "512"})) == 3


def test_it_is_told_at_the_start_and_in_status(tmp_path: Path) -> None:
    with shop(tmp_path, workers=2) as running:
        assert running.daemon.status()["warnings"] == []
        assert running.daemon.interrupt() == 0
        # 128 of its own, 8 a worker and 2 listeners on each do not fit.
        running.daemon.launcher = ("prlimit", "--nofile=140:140")
        files = running.files()
        files["more.yaml"] = {"listeners": {"more": {"address": ports.address()}}}
        running.repo.commit(files)
        running.daemon.start()
        told = "2 listeners on 2 workers take 148 descriptors, and 140 may be open"
        [warning] = running.daemon.status()["warnings"]
        assert warning.startswith(told)
        assert running.daemon.log().count(told) == 1
        assert running.served_by() == 0


def test_the_reserve_is_given_up_for_questions_alone() -> None:
    reserve = Reserve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        taken += opened()
        assert opened() == []
        reserve.begin()
        assert reserve.problem is not None
        assert "LimitNOFILE=" in reserve.problem
        answering = opened()
        assert len(answering) >= 24
        close(answering)
        # While one more waits, what it needs is left to it.
        reserve.begin()
        reserve.end()
        waiting = opened()
        assert len(waiting) == 12
        close(waiting)
        reserve.end()
        assert opened() == []
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        reserve.begin()
        assert reserve.problem is None
        reserve.end()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        reserve.close()
        close(taken)


def opened() -> list[int]:
    """As many descriptors as there are."""
    found = []
    with suppress(OSError):
        while True:
            found.append(os.dup(0))
    return found


def close(descriptors: list[int]) -> None:
    for each in descriptors:
        os.close(each)
