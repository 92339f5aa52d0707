"""A daemon that follows a remote: while it is there, while it is away, and when it is none."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from reconciler.source.git.refs import followed_ref
from tests.harness.ports import address
from tests.harness.repo import Repo
from tests.reconciler.live import Shop, eventually


def test_the_remotes_branch_is_followed(tmp_path: Path) -> None:
    running = following_a_remote(tmp_path)
    daemon, clone = running.daemon, running.daemon.repo
    try:
        daemon.start()
        assert running.served_by() == 0
        sha = running.repo.commit(running.files(1))
        daemon.wait(sha)
        assert running.served_by() == 1
        assert clone.git("status", "--porcelain") == ""
        shutil.move(running.repo.directory, tmp_path / "away")
        time.sleep(1.5)
        assert running.served_by() == 1
    finally:
        running.stop()


def following_a_remote(directory: Path, remote: str = "origin", fetches_every: str = "1s") -> Shop:
    """A shop whose daemon runs on a clone; its repository is the one that was cloned."""
    running = Shop(directory / "upstream", workers=1)
    running.repo.commit(running.files(0))
    clone = directory / "clone"
    subprocess.run(["git", "clone", "-q", running.repo.directory, clone], check=True)
    running.daemon.repo = Repo(clone)
    running.daemon.options = ("--remote", remote, "--fetch-interval", fetches_every)
    return running


def test_a_failing_remote_is_told_while_it_fails(tmp_path: Path) -> None:
    running = following_a_remote(tmp_path)
    daemon, upstream, away = running.daemon, running.repo.directory, tmp_path / "away"
    try:
        daemon.start()
        source = daemon.status()["source"]
        assert (source["remote"], source["fetch_problem"]) == ("origin", None)
        text = daemon.run_cli("status").stdout
        assert re.search(r"\nremote +origin, fetched .* ago\n", text), text
        shutil.move(upstream, away)
        eventually(lambda: daemon.status()["source"]["fetch_problem"])
        source = daemon.status()["source"]
        assert source["fetch_problem"].startswith("cannot fetch main from origin: ")
        assert (source["state"], source["fetched_at"] is not None) == ("following", True)
        assert f"fetching fails  {source['fetch_problem']}" in daemon.run_cli("status").stdout
        time.sleep(2.5)
        shutil.move(away, upstream)
        eventually(lambda: daemon.status()["source"]["fetch_problem"] is None)
        assert "fetching fails" not in daemon.run_cli("status").stdout
        told = daemon.log()
        assert told.count("warning fetching fails") == told.count("fetching works again") == 1
    finally:
        running.stop()


def test_what_is_asked_to_try_again_fetches_now(tmp_path: Path) -> None:
    running = following_a_remote(tmp_path, fetches_every="10m")
    daemon = running.daemon
    try:
        daemon.start()
        sha = running.repo.commit(running.files(1))
        told = daemon.run_cli("retry", check=True).stdout
        assert told == "origin is being fetched; see what becomes of it: kakehi status\n"
        daemon.wait(sha)
        assert running.served_by() == 1
        sha = running.repo.commit(running.files(0))
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait(sha)
        assert running.served_by() == 0
        assert daemon.json("retry")["fetches"] == "origin"
    finally:
        running.stop()


def test_who_waits_for_what_cannot_be_fetched_is_told_so(tmp_path: Path) -> None:
    running = following_a_remote(tmp_path)
    daemon = running.daemon
    try:
        daemon.start()
        lock = daemon.repo.directory / ".git" / f"{followed_ref('origin', 'refs/heads/main')}.lock"
        lock.touch()
        sha = running.repo.commit(running.files(1))
        eventually(lambda: daemon.status()["source"]["fetch_problem"])
        problem = daemon.status()["source"]["fetch_problem"]
        told = daemon.run_cli("wait", "--commit", sha, "--timeout", "4s")
        assert told.returncode == 8, told
        assert f"not everywhere after 4s: fetching fails: {problem}" in told.stderr, told
        assert told.stderr.startswith(f"waiting for {sha[:12]}: fetching fails: "), told
        lock.unlink()
        daemon.wait(sha)
    finally:
        running.stop()


def test_the_password_of_a_remote_is_shown_nowhere(tmp_path: Path) -> None:
    running = following_a_remote(tmp_path, f"http://joe:hunter2@{address()}/x.git")
    daemon = running.daemon
    try:
        daemon.start(wait=False)
        eventually(lambda: "fetching fails" in daemon.log())
        told = [
            daemon.log(),
            *(daemon.run_cli("status", *more).stdout for more in ((), ("--json",))),
        ]
        for each in told:
            assert "http://(secret)@127.0.0.1" in each
            assert "hunter2" not in each
    finally:
        running.stop()


def test_a_remote_by_a_wrong_name_brings_nothing_of_another(tmp_path: Path) -> None:
    running = following_a_remote(tmp_path)
    daemon = running.daemon
    try:
        daemon.start()
        assert "warning" not in daemon.log(), "the first fetch is not late"
        daemon.interrupt()
        shutil.rmtree(daemon.state_dir)
        daemon.options = ("--remote", "nosuch")
        daemon.start(wait=False)
        eventually(lambda: "fetching fails" in daemon.log())
        eventually(lambda: daemon.status()["source"]["problem"])
        status = daemon.status()
        reason = f"{daemon.repo.directory}/.git has no remote 'nosuch' (there is origin)"
        assert status["source"]["problem"] == status["source"]["fetch_problem"] == reason
        assert (status["commit"], status["generation"]) == (None, 0)
        assert daemon.log().count(reason) == 1
    finally:
        running.stop()


def test_a_partial_clone_is_told_and_goes_on_once_it_is_whole(tmp_path: Path) -> None:
    running = Shop(tmp_path / "upstream", workers=1)
    daemon, clone = running.daemon, tmp_path / "clone"
    try:
        running.repo.commit(running.files(0))
        for name in ("allowfilter", "allowanysha1inwant"):
            running.repo.git("config", f"uploadpack.{name}", "true")
        url = f"file://{running.repo.directory}"
        partial = ["clone", "-q", "--no-local", "--filter=blob:none", url, str(clone)]
        running.repo.git(*partial)
        daemon.directory = clone
        daemon.start()
        assert running.served_by() == 0
        sha = running.repo.commit(running.files(1))
        for command in (["fetch", "-q", "origin"], ["update-ref", "refs/heads/main", sha]):
            subprocess.run(["git", "-C", clone, *command], check=True, timeout=60)
        eventually(lambda: "a partial clone" in str(daemon.status()["source"]["problem"]))
        assert running.served_by() == 0
        [told] = re.findall("`(.*)`", daemon.status()["source"]["problem"])
        subprocess.run(["sh", "-c", told], check=True, timeout=60)
        daemon.wait(sha)
        assert running.served_by() == 1
        assert daemon.status()["source"]["problem"] is None
    finally:
        running.stop()
