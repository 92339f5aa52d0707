"""A repository that may not be looked at is told as that: `git init` would not help."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import EXECUTABLE, UNPRIVILEGED
from tests.harness.repo import Repo
from tests.reconciler.live import Shop, eventually

PLACES = [".", ".git", ".git/HEAD", ".git/refs", ".git/objects", "../closed"]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    (tmp_path / "closed").mkdir()
    made = Repo(tmp_path / "closed" / "shop")
    made.commit({"shop.yaml": "clusters: {shop: {}}\n"})
    return made


@pytest.fixture
def closed(repo: Repo, request: pytest.FixtureRequest) -> Iterator[Path]:
    """What nobody may read, in or above the repository."""
    place = (
        repo.directory.parent
        if request.param == "../closed"
        else repo.directory.joinpath(request.param)
    )
    mode = place.stat().st_mode
    place.chmod(0)
    yield place
    place.chmod(mode)


def unprivileged(*line: str, base: Path) -> subprocess.CompletedProcess[str]:
    places = {"KAKEHI_RUNTIME_DIR": str(base / "run"), "KAKEHI_STATE_DIR": str(base / "state")}
    return subprocess.run(
        [*UNPRIVILEGED, EXECUTABLE, *line],
        env={**os.environ, **places, "GIT_CONFIG_GLOBAL": os.devnull},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("closed", PLACES, indirect=True)
def test_a_commit_that_may_not_be_read(repo: Repo, closed: Path, tmp_path: Path) -> None:
    says_what_is_denied(repo, closed, tmp_path, "validate", "--ref", "HEAD")


@pytest.mark.parametrize("closed", [".", ".git", "../closed"], indirect=True)
def test_nothing_is_run_from_it(repo: Repo, closed: Path, tmp_path: Path) -> None:
    says_what_is_denied(repo, closed, tmp_path, "run")


def says_what_is_denied(repo: Repo, closed: Path, base: Path, name: str, *options: str) -> None:
    done = unprivileged(name, str(repo.directory), *options, base=base)
    assert done.returncode not in (0, 3), done.stdout
    assert "ermission denied" in done.stderr, done.stderr
    assert str(closed) in done.stderr, done.stderr
    for harmful in ("git init", "kakehi init", "is not in a git", "is not a directory"):
        assert harmful not in done.stderr, done.stderr


def test_a_working_tree_is_not_taken_for_one_without_git(repo: Repo, tmp_path: Path) -> None:
    """What git ignores is known to git alone: more would be checked than is committed."""
    directory = repo.directory / ".git"
    directory.chmod(0)
    try:
        done = unprivileged("validate", str(repo.directory), base=tmp_path)
    finally:
        directory.chmod(0o755)
    assert done.returncode == 1, done.stdout
    assert f"{directory}: Permission denied" in done.stderr


def test_a_daemon_holds_and_says_what_is_denied(tmp_path: Path) -> None:
    made = Shop(tmp_path, workers=1)
    made.daemon.launcher = UNPRIVILEGED
    made.start()
    try:
        made.repo.directory.chmod(0)
        source = made.daemon.status
        eventually(lambda: source()["source"]["state"] == "holding")
        problem = source()["source"]["problem"]
        assert f"{made.repo.directory}: Permission denied" in problem
        assert "git init" not in problem
        assert made.get() == 200
        made.repo.directory.chmod(0o755)
        eventually(lambda: source()["source"]["state"] == "following")
    finally:
        made.repo.directory.chmod(0o755)
        made.stop()
