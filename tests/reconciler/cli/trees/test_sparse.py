"""Working trees that have not all files of a commit: what a commit keeps, nobody misses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.cli.trees import files, sparse
from reconciler.cli.trees.working_tree import WorkingTree
from tests.harness.daemon import EXECUTABLE
from tests.harness.repo import Repo

CLUSTERS = {f"{name}/{name}.yaml": {"clusters": {name: {}}} for name in ("one", "other", "third")}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit({**CLUSTERS, "other/page.html": "<p>", "z.yaml": {"clusters": {"z": {}}}})
    return made


def sparse_checkout(repo: Repo) -> None:
    repo.git("sparse-checkout", "set", "--no-sparse-index", "one")


def skip_worktree(repo: Repo) -> None:
    for name in ("other/other.yaml", "other/page.html", "third/third.yaml"):
        repo.git("update-index", "--skip-worktree", name)
        (repo.directory / name).unlink()


@pytest.mark.parametrize("version", ["3", "4"])
@pytest.mark.parametrize("leave_out", [sparse_checkout, skip_worktree])
def test_what_is_not_checked_out_is_not_deleted(
    repo: Repo, leave_out: object, version: str
) -> None:
    assert callable(leave_out)
    leave_out(repo)
    repo.git("update-index", "--index-version", version)
    assert not (repo.directory / "other/other.yaml").exists()
    assert repo.git("status", "--short") == ""
    base = repo.head()
    assert WorkingTree(repo.directory).edited_since(base) == {}
    assert {path for path, _ in files.of_working_tree(repo.directory)} == {*CLUSTERS, "z.yaml"}
    assert files.reader(repo.directory, None)("other/page.html") == b"<p>"
    done = subprocess.run([EXECUTABLE, "validate"], cwd=repo.directory, capture_output=True)
    assert b"Valid: 4 clusters" in done.stdout, done

    repo.write({"one/one.yaml": {"clusters": {"changed": {}}}, "z.yaml": None})
    assert WorkingTree(repo.directory).edited_since(base).keys() == {"one/one.yaml", "z.yaml"}
    other = repo.directory.parent / "whole"
    repo.git("clone", "-q", str(repo.directory), str(other))
    whole = Repo(other)
    newer = whole.commit({"other/other.yaml": {"clusters": {"newer": {}}}})
    repo.git("fetch", "-q", str(other), "main")
    repo.git("reset", "-q", "--soft", newer)
    repo.git("read-tree", "-m", newer)
    found = WorkingTree(repo.directory).edited_since(base)
    assert b"newer" in (found["other/other.yaml"] or b"")


def test_what_is_no_index_leaves_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert sparse.left_out(path) == {}
    for content in (b"", b"DIRC", b"DIRC\0\0\0\3\0\0\0\7abc", b"DIRC\0\0\0\4\0\0\0\1" + b"x" * 63):
        path.write_bytes(content)
        assert sparse.left_out(path) == {}
