"""What lies in a working tree otherwise than in the index: by any number of threads the same."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pygit2
import pytest

from reconciler.cli.trees import git_index, unstaged
from reconciler.cli.trees.working_tree import WorkingTree
from tests.harness.repo import Content, Repo

NAMES = [
    f"{folder}{name}"
    for folder in ("", "a/", "a/b/", "a/b.d/", "c/", "c.d/", "e/f/g/", "h-1/")
    for name in ("1.yaml", "2.yaml", "b", "g.yaml", "z.yaml")
]
FOLDERS = ("a", "a/b", "a/b.d", "c", "e/f", "e/f/g", "h-1")

Found = set[tuple[int, bytes, bytes]]


def said(deltas: list[pygit2.DiffDelta]) -> Found:
    return {(each.status, each.old_file.raw_path, each.new_file.raw_path) for each in deltas}


def by_threads(repo: Repo, commit: str, threads: int) -> Found:
    def opened() -> pygit2.Repository:
        return pygit2.Repository(str(repo.directory))

    git = opened()
    return said(
        unstaged.deltas(lambda: git_index.read(git), opened, git[commit].peel(pygit2.Tree), threads)
    )


def by_one(repo: Repo, commit: str) -> Found:
    """The same as pygit2 says it; without what neither disk nor commit has: nobody misses it."""
    git = pygit2.Repository(str(repo.directory))
    tree = git[commit].peel(pygit2.Tree)
    flags = pygit2.enums.DiffOption
    diff = git.index.diff_to_workdir(flags.INCLUDE_UNTRACKED | flags.INCLUDE_IGNORED)
    return {each for each in said(list(diff.deltas)) if matters(repo, tree, each[2])}


def matters(repo: Repo, tree: pygit2.Tree, path: bytes) -> bool:
    return os.path.lexists(repo.directory / os.fsdecode(path)) or os.fsdecode(path) in tree


def altered(repo: Repo, dice: random.Random) -> None:
    """Do one of the things to a working tree that people do, and some that they do not."""
    name, folder = dice.choice(NAMES), dice.choice(FOLDERS)
    path, place = repo.directory / name, repo.directory / folder
    match dice.randrange(9):
        case 0 if not any(parent.is_symlink() for parent in path.parents):
            if path.is_file() and not path.is_symlink():
                path.unlink()
        case 1:
            repo.git("rm", "-r", "--cached", "--quiet", "--ignore-unmatch", folder)
        case 2:
            repo.git("rm", "-r", "-f", "--quiet", "--ignore-unmatch", folder, check=False)
        case 3 if path.is_file() and not path.is_symlink():
            path.unlink()
            (path / "in").mkdir(parents=True)
            (path / "in" / "its-place.yaml").write_text("a folder now")
        case 4 if place.is_dir() and not place.is_symlink():
            place.rename(repo.directory / f"moved-{dice.getrandbits(64)}")
            place.symlink_to("elsewhere")
        case 5:
            (repo.directory / ".gitignore").write_text(
                f"{folder}/\n*.{dice.choice(('yaml', 'new'))}"
            )
        case 6 if place.is_dir():
            (place / dice.choice(("0.new", "k.yaml", "zz.yaml"))).write_text("new")
            (place / "inner").mkdir(exist_ok=True)
            (place / "inner" / "x.yaml").write_text("x")
        case 7:
            repo.git("add", "--all", "--force")
        case _ if path.is_file() and not path.is_symlink():
            path.write_text(f"{dice.random()}")


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_pygit2_says(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    repo = Repo(tmp_path / "repository")
    some: dict[str, Content] = {
        f"{name}/x" if name.endswith("b") and dice.random() < 0.3 else name: name
        for name in dice.sample(NAMES, dice.randrange(3, len(NAMES)))
        if name not in ("a/b", "c.d")
    }
    commit = repo.commit(some)
    for _ in range(12):
        altered(repo, dice)
        expected = by_one(repo, commit)
        for threads in (1, 2, 3, 4):
            found = by_threads(repo, commit, threads)
            assert expected <= found, threads


@pytest.mark.parametrize("folder", ["", "flat/", "deep/er/"])
def test_a_large_tree_is_divided_into_equal_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    repo = Repo(tmp_path / "repository")
    commit = repo.commit({f"{folder}{number:02}.yaml": "" for number in range(40)})
    repo.write({f"{folder}05.yaml": "edited", f"{folder}33.yaml": None, "new/x.yaml": "new"})
    looked: list[int] = []
    whole = unstaged._differing

    def differing(git: pygit2.Repository, paths: list[bytes]) -> list[pygit2.DiffDelta]:
        looked.append(len(set(paths)))
        return whole(git, paths)

    monkeypatch.setattr(unstaged, "_differing", differing)
    expected = by_one(repo, commit)
    assert len(expected) == 3
    for threads in (2, 4):
        looked.clear()
        assert by_threads(repo, commit, threads) == expected
        assert len(looked) == threads
        assert max(looked) <= 40 / threads + 4


def test_names_that_mean_something_to_git_are_looked_at_by_one(repo: Repo) -> None:
    commit = repo.commit({f"{number}.yaml": "" for number in range(10)})
    names = ("!1.yaml", "a[b]/x.yaml", "#c/x.yaml", "d\\e/x.yaml", " f/x.yaml", "*/x.yaml", "g?/x")
    for name in names:
        repo.write({name: "new"})
        assert by_threads(repo, commit, 3) == by_one(repo, commit), name


def test_a_folder_that_is_gone_where_the_tree_is_divided(repo: Repo) -> None:
    names = [f"{folder}/{number}.yaml" for folder in "abc" for number in range(4)]
    commit = repo.commit(dict.fromkeys(names, ""))
    (repo.directory / "b").rename(repo.directory / "b2")
    (repo.directory / "b").symlink_to("c")
    assert by_threads(repo, commit, 2) >= by_one(repo, commit)


def test_how_many_threads_a_tree_is_worth(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    git = pygit2.Repository(str(repo.directory))
    assert unstaged.threads_for(git) == 1, "there is no index yet"
    repo.commit({"a.yaml": ""})
    assert unstaged.threads_for(git) == 1
    os.truncate(repo.directory / ".git/index", 9 * unstaged.INDEX_BYTES_A_THREAD_MIN)
    for processors, threads in ((1, 1), (2, 2), (64, unstaged.THREADS_MAX)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)))
        assert unstaged.threads_for(git) == threads


def test_what_git_does_not_know_before_the_first_file_of_a_part(repo: Repo) -> None:
    commit = repo.commit(dict.fromkeys(("a/1.yaml", "a/2.yaml", "b/1.yaml", "b/2.yaml"), ""))
    repo.write({"b/0.yaml": "new"})
    assert by_threads(repo, commit, 2) == by_one(repo, commit) != set()


def test_what_git_does_not_know_beside_what_it_alone_knows(repo: Repo) -> None:
    commit = repo.commit(dict.fromkeys(("a/2.yaml", "a/3.yaml"), ""))
    repo.write({"a/1.yaml": "added, and taken away"})
    repo.git("add", "--all")
    repo.write({"a/0.yaml": "new", "a/1.yaml": None})
    assert by_threads(repo, commit, 2) >= by_one(repo, commit) != set()


def test_others_read_the_index_while_we_do(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repo.commit({f"{number}.yaml": "" for number in range(10)})
    repo.write({"3.yaml": "x: 1"})
    together = threading.Barrier(2, timeout=10)
    deltas, read = unstaged.deltas, git_index.read

    def of_two(
        here: Callable[[], git_index.Known],
        opened: Callable[[], pygit2.Repository],
        tree: pygit2.Tree,
        _: int,
    ) -> list[pygit2.DiffDelta]:
        def opened_beside() -> pygit2.Repository:
            together.wait()
            return opened()

        return deltas(here, opened_beside, tree, 2)

    def read_beside(git: pygit2.Repository) -> git_index.Known:
        together.wait()
        return read(git)

    monkeypatch.setattr(unstaged, "deltas", of_two)
    monkeypatch.setattr(git_index, "read", read_beside)
    assert WorkingTree(repo.directory).edited_since(commit) == {"3.yaml": b"x: 1"}
