from __future__ import annotations

import time
from pathlib import Path

from reconciler.source.following import FILE_NAME, Following
from reconciler.source.source import Source
from tests.harness.repo import Repo
from tests.reconciler.live import eventually, serves, shop


def following(state_dir: Path, repo: Repo, given: str | None = None) -> tuple[Following, Source]:
    found = Following(state_dir, repo.directory, given)
    return found, Source(repo.directory, found.wanted)


def test_head_is_asked_once(repo: Repo, tmp_path: Path) -> None:
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
    assert "follows main; HEAD is detached" in str(found.warning(source))
    found, source = following(tmp_path, repo)
    assert source.ref == "HEAD"
    repo.git("checkout", "-q", "main")
    assert "follows HEAD itself" in str(found.warning(source))


def test_what_never_existed_is_told_and_not_remembered(repo: Repo, tmp_path: Path) -> None:
    found, source = following(tmp_path, repo, "main")
    assert found.unknown(source) is None, "HEAD names it, and its first commit may come"
    repo.commit({"a.yaml": "1"})
    found, source = following(tmp_path, repo, "mian")
    assert found.unknown(source) == "mian"
    found.keep(source)
    assert not (tmp_path / FILE_NAME).exists()
    repo.git("branch", "mian")
    assert found.unknown(source) is None
    found.keep(source)
    repo.git("branch", "-D", "mian")
    found, source = following(tmp_path, repo, "mian")
    assert found.unknown(source) is None, "it was there once, and may come back"


def test_the_memory_of_another_repository_or_of_nobody(repo: Repo, tmp_path: Path) -> None:
    repo.git("checkout", "-q", "-b", "exp")
    for text in ('{"directory": "/else", "ref": "refs/heads/main"}', "[]", "{", '{"ref": 1}'):
        (tmp_path / FILE_NAME).write_text(text)
        _, source = following(tmp_path, repo)
        assert source.ref == "refs/heads/exp"


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
