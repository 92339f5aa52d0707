"""Two daemons follow two branches of one repository, and know their own commits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.source.git.applied import Applier
from reconciler.source.source import Source
from tests.harness import ports, processes, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.killer import Killer, build
from tests.harness.repo import Repo


def config(address: str, text: str) -> dict[str, Any]:
    frontends = {"web": {"listeners": ["web"], "respond": {"body": text}}}
    listeners = {"web": {"address": address}}
    settings = {"access_log": "off"}
    return {"a.yaml": {"listeners": listeners, "frontends": frontends, "settings": settings}}


def told(daemon: Kakehi) -> list[str]:
    return [each for each in daemon.status()["warnings"] if "lost" in each]


def test_a_commit_of_the_other_one_is_no_loss(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repository")
    production, staging = ports.address(), ports.address()
    repo.commit(config(production, "one"))
    with Kakehi(repo, workers=1, options=("--ref", "main")) as first:
        repo.git("checkout", "-q", "-b", "staging")
        repo.commit(config(staging, "one"))
        with Kakehi(repo, workers=1, options=("--ref", "staging")) as second:
            assert told(second) == [], "its very first start"
            # What the first applies is in the history of the second as well.
            repo.git("checkout", "-q", "main")
            newest = repo.commit(config(production, "two"))
            first.wait(newest)
            repo.git("checkout", "-q", "staging")
            repo.git("merge", "-q", "-s", "ours", "-m", "merged", "main")
            second.wait(repo.head())
            repo.git("checkout", "-q", "main")
            newest = repo.commit(config(production, "three"))
            first.wait(newest)
            repo.git("checkout", "-q", "staging")
            repo.git("merge", "-q", "-s", "ours", "-m", "merged", "main")
            second.interrupt()
            second.start()
            assert told(second) == []


def test_each_comes_back_to_what_it_has_applied_itself(tmp_path: Path) -> None:
    """Nothing is left of its state, and its branch has a commit that it refuses."""
    repo = Repo(tmp_path / "repository")
    production, staging = ports.address(), ports.address()
    repo.commit(config(production, "one"))
    with Kakehi(repo, workers=1, options=("--ref", "main")) as first:
        repo.git("checkout", "-q", "-b", "staging")
        repo.commit(config(staging, "other"))
        with Kakehi(repo, workers=1, options=("--ref", "staging")):
            repo.git("checkout", "-q", "main")
            repo.commit({"bad.yaml": {"frontends": {"x": {"cluster": "nobody"}}}})
            first.interrupt()
            shutil.rmtree(first.state_dir)
            first.start(wait=False)
            told_once = "serving the commit that was applied last"
            processes.wait_until(lambda: told_once in first.log(), "it comes back to it")
            processes.wait_until(lambda: first.log().count(" info applied ") == 2, "it serves")
            with rawclient.Connection(production) as connection:
                assert connection.get("web.test", "/").body == b"one"


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "older"])
def test_who_has_applied_it_does_not_go_by_machine_or_directory(
    tmp_path: Path, is_lost: bool
) -> None:
    """A container has another name at each start, and what it kept comes back elsewhere."""
    repo, address = Repo(tmp_path / "repository"), ports.address()
    repo.commit(config(address, "one"))
    with Kakehi(repo, workers=1) as daemon:
        daemon.interrupt()
        before = shutil.copytree(daemon.state_dir, tmp_path / "before")
        daemon.start()
        daemon.wait(repo.commit(config(address, "two")))
        if is_lost:
            repo.commit({"bad.yaml": {"frontends": {"x": {"cluster": "nobody"}}}})
        daemon.interrupt()
        shutil.rmtree(daemon.state_dir)
        daemon.state_dir = daemon.base / "elsewhere"
        if is_lost:
            daemon.start(wait=False)
            processes.wait_until(lambda: daemon.log().count(" info applied ") == 3, "it serves")
            assert "serving the commit that was applied last" in daemon.log()
            [warning] = told(daemon)
            assert "unless it was another daemon that applied it" in warning
        else:
            shutil.copytree(before, daemon.state_dir)
            daemon.start()
            [warning] = told(daemon)
            assert "is older than the repository's refs/kakehi/applied" in warning
        with rawclient.Connection(address) as connection:
            assert connection.get("web.test", "/").body == b"two"


def test_a_copied_state_directory_is_found_and_told(tmp_path: Path) -> None:
    """By its id a daemon knows its own commit again: two of one id would take each other's."""

    def without_a_port(number: int) -> dict[str, Any]:
        backends = {"one": {"address": f"127.0.0.1:{number}"}}
        return {"a.yaml": {"clusters": {"shop": {"backends": backends}}}}

    repo = Repo(tmp_path / "repository")
    repo.commit(without_a_port(1))
    with Kakehi(repo, workers=1) as first:
        first.interrupt()
        copied = shutil.copytree(first.state_dir, tmp_path / "copied")
        first.start()
        second = Kakehi(repo, workers=1)
        shutil.copytree(copied, second.state_dir)
        with second:

            def is_told() -> bool:
                said = "one state directory is a copy of the other"
                return any(said in each for d in (first, second) for each in d.status()["warnings"])

            # Also where nothing is committed any more.
            processes.wait_until(is_told, "it is told")
            # Each has its own from now on, and nobody is told again.
            for number in (2, 3):
                commit = repo.commit(without_a_port(number))
                for daemon in (first, second):
                    daemon.wait(commit)
            log = first.log() + second.log()
            assert log.count("another daemon has our id") == 1
            assert "was not kept alive" not in log, log


def test_a_first_start_on_another_branch_takes_nobody_elses(tmp_path: Path) -> None:
    """Its branch has a commit that is refused, and one below it that another daemon applied."""
    repo, production = Repo(tmp_path / "repository"), ports.address()
    repo.commit(config(production, "one"))
    with Kakehi(repo, workers=1, options=("--ref", "main")):
        repo.git("checkout", "-q", "-b", "staging")
        refused = repo.commit({"bad.yaml": {"frontends": {"x": {"cluster": "nobody"}}}})
        second = Kakehi(repo, workers=1, options=("--ref", "staging"))
        second.start(wait=False)
        try:
            seen = f"refused commit={refused[:12]}"
            processes.wait_until(lambda: seen in second.log(), "it is refused")
            assert second.status()["commit"] is None
            assert "that was applied last" not in second.log()
        finally:
            second.stop()


# Imports once, and marks in a process of its own for each line, in which calls are counted.
MARKS = """
import ctypes, os, sys
from pathlib import Path
from reconciler.source.git.applied import Applier
from reconciler.source.source import Source
own = ctypes.CDLL(None).killer_own
own(0)
for line in sys.stdin:
    directory, commit, by = line.split()
    child = os.fork()
    if child == 0:
        own(1)
        applied = Source(Path(directory), "main").repository.applied
        applied.mark(commit, Applier(by, "refs/heads/main"))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("before", [["second", "first"], ["first"], []], ids=len)
def test_a_kill_at_any_moment_leaves_each_its_own_commit(tmp_path: Path, before: list[str]) -> None:
    """The refs are several, and are moved one by one, whatever moves them."""
    repo = Repo(tmp_path / "repository")
    old = {by: repo.commit({"a.yaml": f"# {by}"}) for by in ("first", "second")}
    new = repo.commit({"a.yaml": "# new"})
    repository = Source(repo.directory, "main").repository
    for by in before:
        repository.applied.mark(old[by], Applier(by, "refs/heads/main"))
    killer = Killer(build(tmp_path), tmp_path)
    marking = subprocess.Popen(
        [sys.executable, "-B", "-c", MARKS],
        env={**os.environ, **killer.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with marking:
        for call in range(1, 200):
            copy = Repo(tmp_path / f"copy{call}")
            shutil.rmtree(copy.directory)
            shutil.copytree(repo.directory, copy.directory)
            killer.kill_at(call)
            assert marking.stdin is not None and marking.stdout is not None
            print(copy.directory, new, "second", file=marking.stdin, flush=True)
            code = int(marking.stdout.readline())
            opened = Source(copy.directory, "main").repository
            found = {
                by: (ref := opened.applied.by(Applier(by, "refs/heads/main")))
                and opened.refs.resolve(ref)
                for by in old
            }
            if code == 0:
                expected = {"first": old["first"] if "first" in before else None, "second": new}
                assert found == expected
                assert call > 5
                return
            assert code == -signal.SIGKILL
            where = f"killed at call {call}, {killer.name}"
            assert found["first"] == (old["first"] if "first" in before else None), where
            assert found["second"] in (new, old["second"] if "second" in before else None), where
    raise AssertionError("it never came to its end")
