"""The state directory loses what it held, and the newest commit is of no use: F30.

Workers go on serving, under load, whatever the daemon has lost: what they hold is the state again,
and the next commit goes the usual way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import daemon, processes
from tests.harness.load import OpenLoop
from tests.harness.site import Site

WAIT_S = 60
# Each ends with a site that has survived, and begins by a commit of its own.
BEGIN_ANYWHERE = True
INVALID = {"kakehi.yaml": "frontends: {main: {nonsense: true}}\n"}


def files(site: Site, backend: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}


# What becomes of the state directory


def zeroed(directory: Path) -> None:
    for path in stored(directory):
        path.write_bytes(bytes(path.stat().st_size))


def bits_flipped(directory: Path) -> None:
    for path in stored(directory):
        content = bytearray(path.read_bytes())
        for place in range(16, len(content), 97):
            content[place] ^= 1
        path.write_bytes(content)


def truncated(directory: Path) -> None:
    for path in stored(directory):
        with path.open("rb+") as opened:
            opened.truncate(path.stat().st_size // 3)


def emptied(directory: Path) -> None:
    for path in stored(directory):
        path.unlink()


def deleted(directory: Path) -> None:
    shutil.rmtree(directory)


def stored(directory: Path) -> list[Path]:
    """What holds the state, and no more: not the lock, and not what stands beside it."""
    beside = {"lock", "tickets", "challenges"}
    found = [path for path in directory.iterdir() if path.is_file() and path.name not in beside]
    assert found, "there is something to damage"
    return found


DAMAGES = (zeroed, bits_flipped, truncated, emptied, deleted)


# What the repository has meanwhile


@contextmanager
def head_is_invalid(site: Site) -> Iterator[None]:
    sha = site.repo.commit(INVALID, "broken")
    assert site.daemon.process is None or site.daemon.process.poll() is not None
    yield
    processes.wait_until(
        lambda: (site.daemon.ask("status")["last_error"] or {}).get("commit") == sha,
        "the commit is refused",
    )


@contextmanager
def head_is_valid(_: Site) -> Iterator[None]:
    yield


@contextmanager
def repository_is_gone(site: Site) -> Iterator[None]:
    away = site.repo.directory.with_name("away")
    site.repo.directory.rename(away)
    try:
        yield
    finally:
        away.rename(site.repo.directory)


@contextmanager
def history_is_rewritten(site: Site) -> Iterator[None]:
    """The commit that workers name is nowhere any more, and the newest one is invalid."""
    git = site.repo.git
    git("checkout", "--orphan", "other")
    git("rm", "-rfq", ".")
    site.repo.commit(INVALID, "broken")
    git("branch", "-M", "other", "main")
    git("update-ref", "-d", "refs/kakehi/applied")
    git("reflog", "expire", "--expire=now", "--all")
    git("gc", "-q", "--prune=now")
    yield


REPOSITORIES = (head_is_valid, head_is_invalid, repository_is_gone, history_is_rewritten)


def lost(damage: Callable[[Path], None], repository: Any, site: Site) -> None:
    site.begin(files(site, "red"))
    site.commit(files(site, "blue"))
    generation, digest = site.running()
    workers = site.identity()
    with OpenLoop(site.address, ["main.test"], site.directory / "load", rate=100, fresh=2) as load:
        load.wait_for(5)
        # Twice, so that the workers have seen later daemons than the files know of.
        for _ in range(2):
            site.daemon.leave()
            damage(site.daemon.state_dir)
            with repository(site):
                site.daemon.return_(wait=False)
                processes.wait_until(
                    lambda: all(
                        each["state"] == "running" for each in site.daemon.ask("status")["workers"]
                    ),
                    "all workers are in service",
                )
                assert site.running() == (generation, digest)
                assert site.identity() == workers, "nobody was ended"
                assert site.everywhere("main.test") == {"blue"}
                is_known = repository in (head_is_valid, head_is_invalid)
                assert told_where(site) == (is_known, is_known)
            if repository is head_is_invalid:
                site.repo.commit(files(site, "blue"), "mended")
        site.commit(files(site, "red"))
        assert site.everywhere("main.test") == {"red"}
        assert told_where(site) == (True, True)
        assert site.running()[0] == generation + 1
        assert site.identity() == workers
        load.wait_for(20)
        load.stop()
        assert load.failures == []
        assert load.closed == []


def told_where(site: Site) -> tuple[bool, bool]:
    """Whether `show` tells where a frontend is written, and `status` has no word of that."""
    shown = site.daemon.run_cli("show", "frontend").stdout
    warnings = site.daemon.ask("status")["warnings"]
    assert ("(not known)" in shown) != ("kakehi.yaml:" in shown)
    return "(not known)" not in shown, not any("is not known" in each for each in warnings)


def nobody_serves(damage: Callable[[Path], None], site: Site) -> None:
    """No worker is left either, and the newest commit is refused: what was applied is served."""
    site.begin(files(site, "red"))
    workers = site.identity()
    site.commit(files(site, "blue"))
    # At once: what was told to be applied is what comes back.
    os.kill(site.daemon.pid, signal.SIGKILL)
    site.daemon.await_end()
    digest = site.committed_digest()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    damage(site.daemon.state_dir)
    with head_is_invalid(site):
        site.daemon.return_(wait=False)
        processes.wait_until(
            lambda: site.daemon.ask("status")["digest"] == digest, "it is served", WAIT_S
        )
    assert site.everywhere("main.test") == {"blue"}
    site.commit(files(site, "red"))
    assert site.everywhere("main.test") == {"red"}


def one_does_not_answer(damage: Callable[[Path], None], site: Site) -> None:
    """What the other one holds is the state; who says nothing is followed by one that does."""
    site.begin(files(site, "red"))
    site.commit(files(site, "blue"))
    running, (silent, other) = site.running(), site.worker_pids()
    site.daemon.leave()
    damage(site.daemon.state_dir)
    with daemon.stopped(silent):
        with head_is_invalid(site):
            site.daemon.return_(wait=False)
            processes.wait_until(lambda: in_service(site), "both are in service", WAIT_S)
            assert site.running() == running
            assert site.worker_pids()[1] == other
            assert site.worker_pids()[0] != silent
            processes.wait_until(lambda: not serves(silent), "it has been ended", WAIT_S)
        site.commit(files(site, "red"))
        assert site.everywhere("main.test") == {"red"}


def nobody_answers(damage: Callable[[Path], None], site: Site) -> None:
    """Nothing can be known, and the newest commit is refused: they stay until one is served."""
    site.begin(files(site, "red"))
    pids = site.worker_pids()
    site.daemon.leave()
    # What other daemons have applied here, too: one that has lost its state takes theirs.
    for ref in site.repo.git("for-each-ref", "--format=%(refname)", "refs/kakehi").split():
        site.repo.git("update-ref", "-d", ref)
    damage(site.daemon.state_dir)
    with contextlib.ExitStack() as stack:
        for pid in pids:
            stack.enter_context(daemon.stopped(pid))
        with head_is_invalid(site):
            site.daemon.return_(wait=False)
            processes.wait_until(lambda: in_service(site), "successors wait", WAIT_S)
            waiting = site.worker_pids()
            # The next daemon does not take the successors for those that serve.
            site.daemon.leave()
            site.daemon.return_(wait=False)
            processes.wait_until(lambda: in_service(site), "successors wait again", WAIT_S)
            processes.wait_until(
                lambda: not any(map(serves, waiting)), "those of before have ended", WAIT_S
            )
    # Successors that hold nothing are no reason to end them: they serve when they wake up.
    assert set(site.kept("main.test", pids=pids).values()) == {"red"}
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}
    assert not set(site.worker_pids()) & set(pids)
    processes.wait_until(lambda: not any(map(serves, pids)), "they have been drained", WAIT_S)


def in_service(site: Site) -> bool:
    return all(each["state"] == "running" for each in site.daemon.ask("status")["workers"])


def serves(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().startswith(b"kakehi-w")
    except OSError:
        return False


CASES: dict[str, Callable[[Site], None]] = {
    **{
        f"{damage.__name__}, {repository.__name__}": partial(lost, damage, repository)
        for damage in DAMAGES
        for repository in REPOSITORIES
    },
    **{
        f"deleted, {case.__name__}": partial(case, deleted)
        for case in (nobody_serves, one_does_not_answer, nobody_answers)
    },
}


@pytest.mark.parametrize("case", CASES)
def test_workers_are_the_state_when_it_is(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
