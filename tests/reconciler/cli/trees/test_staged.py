"""What was added since a commit, beside what libgit2 says entry by entry."""

from __future__ import annotations

import random
from pathlib import Path

import pygit2
import pytest

from reconciler.cli.trees.staged import differing
from tests.harness.repo import Content, Repo


def entry_by_entry(git: pygit2.Repository, tree: pygit2.Tree) -> set[bytes]:
    deltas = git.index.diff_to_tree(tree).deltas
    return {each.raw_path for delta in deltas for each in (delta.old_file, delta.new_file)}


def objects(repo: Repo) -> int:
    return sum(1 for each in (repo.directory / ".git/objects").rglob("*") if each.is_file())


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_differs_entry_by_entry(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    repo = Repo(tmp_path / "repository")
    names = [f"{folder}/{name}.yaml" for folder in ("a", "a/b", "c", "c.d", "e") for name in "12"]
    commits = [repo.commit(dict.fromkeys(names, "0"))]
    for number in range(12):
        changes: dict[str, Content] = dict.fromkeys(dice.sample(names, 2), f"{number}")
        gone = dice.choice(names)
        if (repo.directory / gone).exists() and gone not in changes:
            changes[gone] = None
        repo.write(changes)
        repo.git("add", "--all")
        if dice.random() < 0.5:
            commits.append(repo.commit())
        repo.write({dice.choice(names): "edited, and not added"})
        before = objects(repo)
        for commit in {commits[0], commits[-1]}:
            git = pygit2.Repository(str(repo.directory))
            tree = git[commit].peel(pygit2.Tree)
            found = differing(git.index, repo.directory / ".git/objects", tree)
            assert found == entry_by_entry(git, tree)
        assert objects(repo) == before, "a question wrote into the repository"


def test_a_folder_in_the_place_of_a_file_is_both(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repository")
    repo.commit({"a.yaml": "1", "b": "2"})
    repo.write({"b": None})
    repo.write({"b/c.yaml": "3"})
    repo.git("add", "--all")
    git = pygit2.Repository(str(repo.directory))
    found = differing(git.index, repo.directory / ".git/objects", git.head.peel(pygit2.Tree))
    assert found == {b"b", b"b/c.yaml"}


def test_an_index_with_conflicts_makes_no_tree(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repository")
    repo.commit({"a.yaml": "1"})
    repo.git("checkout", "--quiet", "-b", "other")
    repo.commit({"a.yaml": "2"})
    repo.git("checkout", "--quiet", "main")
    repo.commit({"a.yaml": "3"})
    repo.git("merge", "other", check=False)
    git = pygit2.Repository(str(repo.directory))
    tree = git.head.peel(pygit2.Tree)
    assert differing(git.index, repo.directory / ".git/objects", tree) is None
