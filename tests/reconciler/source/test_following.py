from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from reconciler.source.following import FILE_NAME, Following
from reconciler.source.source import Source
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo
from tests.reconciler.live import eventually, serves, shop


def following(state_dir: Path, repo: Repo, given: str | None = None) -> tuple[Following, Source]:
    found = Following(state_dir, repo.directory, given)
    return found, Source(repo.directory, found.wanted)


def test_head_is_asked_once(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "1"})
    first, source = following(tmp_path, repo)
    first.keep(source)
    repo.git("checkout", "-q", "-b", "exp")
    assert source.shown_ref == "main"
    again, source = following(tmp_path, repo)
    assert source.ref == "refs/heads/main"
    said = "follows main; HEAD is on exp: restart with --ref exp to follow it"
    assert again.warning(source) == said


def test_what_is_given_goes_first_and_is_kept(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "1"})
    repo.git("branch", "production")
    for given in (None, "production"):
        found, source = following(tmp_path, repo, given)
        found.keep(source)
    assert found.warning(source) is None, "it is what somebody wanted"
    found, source = following(tmp_path, repo)
    assert source.ref == "refs/heads/production"


def test_a_detached_head_is_no_other_branch(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "1"})
    found, source = following(tmp_path, repo)
    assert source.ref == "refs/heads/main"
    repo.git("checkout", "-q", "--detach")
    assert found.warning(source) is None
    found, source = following(tmp_path, repo)
    assert source.ref == "HEAD"
    repo.git("checkout", "-q", "main")
    assert found.warning(source) is None


def test_the_memory_of_another_repository_or_of_nobody(repo: Repo, tmp_path: Path) -> None:
    repo.git("checkout", "-q", "-b", "exp")
    for text in ('{"directory": "/else", "ref": "refs/heads/main"}', "[]", "{", '{"ref": 1}'):
        (tmp_path / FILE_NAME).write_text(text)
        _, source = following(tmp_path, repo)
        assert source.ref == "refs/heads/exp"


def test_a_misspelled_ref_is_told_and_not_remembered(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        daemon = running.daemon
        assert daemon.interrupt() == 0
        kept = (daemon.state_dir / FILE_NAME).read_bytes()
        daemon.options = ("--ref", "mian")
        daemon.start(wait=False)
        eventually(lambda: serves(running))
        told = 'branch mian does not exist in .*: did you mean "main"?'
        eventually(lambda: daemon.status()["source"]["state"] == "holding")
        assert re.search(told, daemon.status()["source"]["problem"])
        assert re.search(f"serving the last committed state.*{told}", daemon.log())
        assert (daemon.state_dir / FILE_NAME).read_bytes() == kept
        assert daemon.interrupt() == 0
        shutil.rmtree(daemon.state_dir)
        started = len(daemon.log())
        daemon.start(wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(30) == 1, "there is nothing to run"
        said = daemon.log()[started:]
        assert re.search(told, said)
        assert "holding" not in said
        assert "Traceback" not in said
        assert not (daemon.state_dir / FILE_NAME).exists()
        # It can be told right, and is followed from then on.
        daemon.options = ("--ref", "main")
        daemon.start()
        assert running.served_by() == 0


def test_nothing_is_held_where_nothing_is(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fresh")
    daemon = Kakehi(repo)
    try:
        daemon.start(wait=False)
        eventually(lambda: "branch main does not exist" in daemon.log())
        assert "holding the running state" not in daemon.log()
        assert "there is nothing to serve yet" in daemon.log()
        repo.commit({"a.yaml": "listeners: {}\nsettings: {}\n"})
        eventually(lambda: daemon.status()["commit"] == repo.head())
    finally:
        daemon.stop()


def test_a_checkout_changes_nothing_even_over_a_crash(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        daemon, repo = running.daemon, running.repo
        assert daemon.status()["warnings"] == []
        repo.git("checkout", "-q", "-b", "exp")
        repo.commit(running.files(1))
        told = "follows main; HEAD is on exp: restart with --ref exp to follow it"
        assert daemon.status()["warnings"] == [told]
        running.crash()
        daemon.start(wait=False)
        eventually(lambda: daemon.log().count("worker in service") == 2)
        time.sleep(1.5)
        assert running.served_by() == 0
        status = daemon.status()
        assert (status["ref"], status["warnings"]) == ("main", [told])
        assert daemon.interrupt() == 0
        daemon.options = ("--ref", "exp")
        daemon.start()
        assert running.served_by() == 1
        assert daemon.status()["warnings"] == []
        repo.git("checkout", "-q", "main")
        assert daemon.interrupt() == 0
        daemon.options = ()
        daemon.start(wait=False)
        eventually(lambda: serves(running))
        assert running.served_by() == 1
        assert daemon.status()["ref"] == "exp"
