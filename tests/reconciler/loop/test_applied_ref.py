"""The ref of the applied commit is moved before anybody is told that the commit is applied."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import syscalls
from tests.harness.processes import wait_until
from tests.harness.repo import Repo
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


def test_a_daemon_says_at_its_start_that_the_ref_is_its_own_and_not_behind_a_commit(
    tmp_path: Path,
) -> None:
    with shop(tmp_path, workers=1) as running:
        wait_until(lambda: owner(running), "the first one says it")
        former = owner(running)
        running.crash()
        running.daemon.start()
        wait_until(lambda: owner(running) != former, "the next one says it")
        with syscalls.told(running.pid, tmp_path / "calls", "openat,write") as calls:
            sha = running.commit(1)
            assert applied(running) == sha
    assert any(r"\"outcome\":\"applied\"" in call for call in calls), "\n".join(calls)
    assert not any(f"{_REF}-by.lock" in call for call in calls), "\n".join(calls)


def owner(running: Shop) -> str:
    return running.repo.git("cat-file", "blob", f"{_REF}-by", check=False)


NOTICED_S = 5.0


def kept(running: Shop) -> bool:
    return applied(running) == running.repo.head() and len(owner(running).splitlines()) == 4


def mirrored(running: Shop) -> None:
    other = Repo(running.repo.directory.parent / "mirrored")
    other.git("fetch", "-q", "--update-head-ok", str(running.repo.directory), "main:main")
    other.git("push", "-q", "--mirror", str(running.repo.directory))


BEFORE = "main~1"
UNDONE: dict[str, tuple[Callable[[Shop], object], str]] = {
    "deleted": (lambda shop: shop.repo.git("update-ref", "-d", _REF), "applied was deleted"),
    "moved": (lambda shop: shop.repo.git("update-ref", _REF, BEFORE), "applied was moved to"),
    "owner deleted": (lambda shop: shop.repo.git("update-ref", "-d", f"{_REF}-by"), "-by was"),
    "packed, deleted": (
        lambda shop: (shop.repo.git("pack-refs", "--all"), shop.repo.git("update-ref", "-d", _REF)),
        "applied was deleted",
    ),
    "mirrored over": (mirrored, "was deleted"),
}


@pytest.fixture(scope="module")
def kept_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("kept"), workers=1) as running:
        running.commit(1)
        yield running


@pytest.mark.parametrize("how", UNDONE)
def test_what_somebody_undoes_is_noticed_without_a_commit(how: str, kept_shop: Shop) -> None:
    running = kept_shop
    undo, said = UNDONE[how]
    wait_until(lambda: kept(running), "it is kept before")
    before = len(running.daemon.log())
    undo(running)
    wait_until(lambda: kept(running), "it is kept again", NOTICED_S)
    told = [
        line
        for line in running.daemon.log()[before:].splitlines()
        if "the applied commit was not kept alive" in line
    ]
    assert len(told) == 1 and said in told[0], told
    assert running.daemon.status()["warnings"] == []


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
