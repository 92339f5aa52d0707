"""The ref of the applied commit is moved before anybody is told that the commit is applied."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.harness import syscalls
from tests.harness.processes import wait_until
from tests.harness.site import Site
from tests.reconciler.live import Shop, shop

_REF = "refs/kakehi/applied"
_INVALID = {"kakehi.yaml": "frontends: {main: {nonsense: true}}\n"}


def applied(running: Shop | Site) -> str:
    return running.repo.git("rev-parse", "--verify", "--quiet", _REF, check=False)


def test_the_ref_is_moved_before_whoever_waits_is_answered(tmp_path: Path) -> None:
    with (
        shop(tmp_path, workers=1) as running,
        syscalls.told(running.pid, tmp_path / "calls", "openat,write") as calls,
    ):
        sha = running.commit(1)
        assert applied(running) == sha
    [moved] = [at for at, call in enumerate(calls) if f"{_REF}.lock" in call]
    answered = [at for at, call in enumerate(calls) if r"\"outcome\":\"applied\"" in call]
    assert answered and moved < min(answered), "\n".join(calls)


def test_whoever_waits_is_answered_before_a_daemon_says_that_the_ref_is_its_own(
    tmp_path: Path,
) -> None:
    with shop(tmp_path, workers=1) as running:
        running.crash()
        running.daemon.start()
        with syscalls.told(running.pid, tmp_path / "calls", "openat,write") as calls:
            running.commit(1)
            wait_until(lambda: is_claimed(tmp_path / "calls"), "it is said")
    claimed = [at for at, call in enumerate(calls) if f"{_REF}-by.lock" in call]
    answered = [at for at, call in enumerate(calls) if r"\"outcome\":\"applied\"" in call]
    assert answered and max(answered) < min(claimed), "\n".join(calls)


def is_claimed(calls: Path) -> bool:
    return f"{_REF}-by.lock" in calls.read_text()


def test_a_commit_that_changes_nothing_is_kept_as_well(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        sha = running.daemon.commit({"README.md": "The shop.\n"})
        assert applied(running) == sha


def test_what_a_daemon_had_no_time_to_move_the_next_one_moves(tmp_path: Path) -> None:
    """It was killed right behind its commit record, and the newest commit is refused."""
    with Site(tmp_path) as site:
        files = [
            {"kakehi.yaml": site.document({"main": [name]}, {"main": "main"})}
            for name in ("red", "blue")
        ]
        site.start(files[0], KAKEHI_FAULT="journal.committed:crash:2")
        before, recorded = site.repo.head(), site.repo.commit(files[1])
        assert site.daemon.await_end() == -signal.SIGKILL
        assert applied(site) == before
        site.repo.commit(_INVALID)
        site.daemon.return_(wait=False)
        wait_until(lambda: applied(site) == recorded, "the ref is moved")
        # It is moved in the midst of a start, which a signal would end.
        site.daemon.ask("status")
