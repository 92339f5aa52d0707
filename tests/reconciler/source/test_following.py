from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.source.following import NAME, Following
from reconciler.source.source import Source
from reconciler.storage.store import Store
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo
from tests.reconciler.live import eventually, serves, shop


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state")
    yield made
    made.close()


def following(store: Store, repo: Repo, given: str | None = None) -> tuple[Following, Source]:
    found = Following(store, repo.directory, given)
    return found, Source(repo.directory, found.wanted)


def kept(state_dir: Path) -> list[tuple[str, str]]:
    """What a daemon remembers."""
    with contextlib.closing(sqlite3.connect(state_dir / "state.db")) as database:
        return database.execute("SELECT name, text FROM kept").fetchall()


def test_head_is_asked_once(repo: Repo, store: Store) -> None:
    repo.commit({"a.yaml": "1"})
    first, source = following(store, repo)
    first.keep(source)
    repo.git("checkout", "-q", "-b", "exp")
    assert source.shown_ref == "main"
    again, source = following(store, repo)
    assert source.ref == "refs/heads/main"
    said = "follows main; HEAD is on exp: restart with --ref exp to follow it"
    assert again.warning(source) == said


def test_what_is_given_goes_first_and_is_kept(repo: Repo, store: Store) -> None:
    repo.commit({"a.yaml": "1"})
    repo.git("branch", "production")
    for given in (None, "production"):
        found, source = following(store, repo, given)
        found.keep(source)
    assert found.warning(source) is None, "it is what somebody wanted"
    found, source = following(store, repo)
    assert source.ref == "refs/heads/production"


def test_a_detached_head_is_no_other_branch(repo: Repo, store: Store) -> None:
    repo.commit({"a.yaml": "1"})
    found, source = following(store, repo)
    assert source.ref == "refs/heads/main"
    repo.git("checkout", "-q", "--detach")
    assert "follows main; HEAD is detached" in str(found.warning(source))
    found, source = following(store, repo)
    assert source.ref == "HEAD"
    repo.git("checkout", "-q", "main")
    assert "follows HEAD itself" in str(found.warning(source))


def test_the_memory_of_another_repository_or_of_nobody(repo: Repo, store: Store) -> None:
    repo.git("checkout", "-q", "-b", "exp")
    for text in ('{"directory": "/else", "ref": "refs/heads/main"}', "[]", "{", '{"ref": 1}'):
        store.keep(NAME, text)
        _, source = following(store, repo)
        assert source.ref == "refs/heads/exp"


def test_a_misspelled_ref_is_told_and_not_remembered(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        daemon = running.daemon
        assert daemon.interrupt() == 0
        before = kept(daemon.state_dir)
        daemon.options = ("--ref", "mian")
        daemon.start(wait=False)
        eventually(lambda: serves(running))
        told = 'branch mian does not exist in .*: did you mean "main"?'
        eventually(lambda: daemon.status()["source"]["state"] == "holding")
        assert re.search(told, daemon.status()["source"]["problem"])
        said = f" error cannot follow what --ref names: serving the last committed state.*{told}"
        assert re.search(said, daemon.log())
        running.repo.commit({"README.md": "a newer one"})
        began = time.monotonic()
        waited = daemon.run_cli("wait", "--timeout", "60s")
        assert (waited.returncode, re.search(told, waited.stderr) is not None) == (8, True)
        assert time.monotonic() - began < 30, "nothing is known later that is not known now"
        assert kept(daemon.state_dir) == before
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
        # By what a daemon knows its own commits, and not what it should follow.
        assert [name for name, _ in kept(daemon.state_dir)] == ["applier"]
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
