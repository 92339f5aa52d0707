"""The control plane dies, or its disk fails, at every named point of a commit.

Whatever point it is: while it is away everybody is served by one generation, and after its return
all workers hold one generation, which is that of a commit, and nothing that was accepted is lost.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from reconciler import faults
from tests.reconciler.live import Shop, eventually

# (point, which time it is hit; two workers and one commit before, whether the commit survives).
CRASHES = [
    ("transaction.begin", 2, False),
    ("prepare.sent", 3, False),
    ("prepare.sent", 4, False),
    ("journal.commit", 2, False),
    ("commit.sent", 3, True),
    ("commit.sent", 4, True),
    ("release.sent", 3, True),
    ("release.sent", 4, True),
    ("journal.done", 2, True),
]


@pytest.mark.parametrize(("point", "nth", "survives"), CRASHES)
def test_a_crash_leaves_one_generation_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, nth: int, survives: bool
) -> None:
    running = Shop(tmp_path)
    try:
        monkeypatch.setenv(faults.VARIABLE, f"{point}:crash:{nth}")
        running.start()
        pids = running.daemon.worker_pids()
        first = running.repo.head()
        second = running.repo.commit(running.files(1))
        assert running.daemon.process is not None
        assert running.daemon.process.wait(20) == -signal.SIGKILL
        assert [running.get() for _ in range(10)] == [200] * 10
        monkeypatch.delenv(faults.VARIABLE)
        # The repository is away at first: what runs is what the state directory knows.
        running.repo.git("update-ref", "refs/heads/elsewhere", second)
        running.repo.git("update-ref", "refs/heads/main", first)
        running.repo.git("update-ref", "-d", "refs/heads/main")
        running.daemon.start(wait=False)
        eventually(running.daemon.answers)
        eventually(lambda: _settled(running))
        status = running.daemon.status()
        assert status["commit"] == (second if survives else first)
        assert status["generation"] == (2 if survives else 1)
        assert running.served_by() == int(survives)
        assert [worker["pid"] for worker in status["workers"]] == pids
        running.repo.git("update-ref", "refs/heads/main", second)
        running.daemon.wait(second)
        assert running.served_by() == 1
        assert running.daemon.status()["generation"] == 2
    finally:
        running.stop()


def _settled(running: Shop) -> bool:
    status = running.daemon.status()
    return len(status["workers"]) == 2 and all(
        (worker["state"], worker["digest"]) == ("running", status["digest"])
        for worker in status["workers"]
    )


def test_a_disk_that_fails_aborts_and_recovers_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Shop(tmp_path)
    try:
        monkeypatch.setenv(faults.VARIABLE, "journal.commit:raise:2")
        running.start()
        second = running.repo.commit(running.files(1))
        eventually(lambda: running.daemon.status()["last_error"] is not None)
        error = running.daemon.status()["last_error"]
        assert (error["stage"], error["commit"]) == ("journal", second)
        assert "cannot write the state" in error["message"]
        assert running.served_by() == 0
        running.daemon.wait(second)
        assert running.served_by() == 1
        assert running.daemon.status()["last_error"] is None
    finally:
        running.stop()


def test_without_the_variable_nothing_happens() -> None:
    faults.point("transaction.begin")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a:crash:3", ("a", "crash", 3)),
        ("a:raise", ("a", "raise", 1)),
        ("a:explode:1", None),
        ("", None),
    ],
)
def test_how_the_variable_is_read(text: str, parsed: tuple[str, str, int] | None) -> None:
    assert faults._parse(text) == parsed


def test_only_the_nth_time_counts() -> None:
    hit = faults._armed(("a", "raise", 2))
    hit("a")
    hit("b")
    with pytest.raises(OSError, match="fault injected at a"):
        hit("a")
    hit("a")
