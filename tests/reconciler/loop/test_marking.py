"""The ref of the applied commit is moved behind everything that somebody waits for."""

from __future__ import annotations

from pathlib import Path

from tests.harness import syscalls
from tests.harness.processes import wait_until
from tests.reconciler.live import Shop, shop

_REF = "refs/kakehi/applied"


def applied(running: Shop) -> str:
    return running.repo.git("rev-parse", "--verify", "--quiet", _REF, check=False)


def test_the_applied_commit_is_kept_alive(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        sha = running.commit(1)
        wait_until(lambda: applied(running) == sha, "the ref of the applied commit", 1)


def test_whoever_waits_is_answered_before_the_ref_is_moved(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        wait_until(lambda: applied(running) == running.repo.head(), "the first commit's ref", 1)
        with syscalls.told(running.pid, tmp_path / "calls", "openat,write") as calls:
            sha = running.commit(1)
            wait_until(lambda: applied(running) == sha, "the ref of the applied commit", 1)
    [moved] = [at for at, call in enumerate(calls) if f"{_REF}.lock" in call]
    answered = [at for at, call in enumerate(calls) if r"\"outcome\":\"applied\"" in call]
    assert answered and min(answered) < moved, "\n".join(calls)


def test_a_daemon_that_ends_leaves_nothing_to_be_moved(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        sha = running.commit(1)
        running.daemon.interrupt()
        assert applied(running) == sha
