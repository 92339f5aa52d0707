"""Indexes of every form, and those that nobody can read."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from reconciler.cli.exits import CommandError
from reconciler.cli.trees import files
from reconciler.cli.trees.working_tree import WorkingTree
from tests.harness.repo import Repo
from tests.reconciler.cli.program import kakehi

CLUSTERS = {f"{name}/{name}.yaml": {"clusters": {name: {}}} for name in ("one", "other", "third")}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit({**CLUSTERS, "z.yaml": {"clusters": {"z": {}}}})
    return made


def split(repo: Repo) -> None:
    repo.git("update-index", "--split-index")


def sparse(repo: Repo) -> None:
    repo.git("sparse-checkout", "set", "--sparse-index", "one")


@pytest.mark.parametrize("form", [split, sparse])
def test_forms_that_libgit2_does_not_read_are_written_out(repo: Repo, form: object) -> None:
    assert callable(form)
    form(repo)
    before = (repo.directory / ".git/index").read_bytes()
    ran = repo.directory.parent / "ran"
    for name, value in (("core.fsmonitor", f"touch {ran}"), ("core.hooksPath", "hooks")):
        repo.git("config", name, value)
    hook = repo.directory / "hooks/post-index-change"
    repo.write({"hooks/post-index-change": f"#!/bin/sh\ntouch {ran}\n"})
    hook.chmod(0o755)
    base = repo.git("rev-parse", "HEAD")
    assert WorkingTree(repo.directory).edited_since(base) == {}
    assert {path for path, _ in files.of_working_tree(repo.directory)} == {*CLUSTERS, "z.yaml"}
    assert "No changes" in kakehi("plan", "--from", "HEAD", cwd=repo.directory).stdout
    repo.write({"one/one.yaml": {"clusters": {"changed": {}}}, "z.yaml": None, "one/new.yaml": ""})
    found = WorkingTree(repo.directory).differing(base)
    assert (found.edited, found.deleted) == (["one/one.yaml"], ["z.yaml"])
    assert found.untracked == ["one/new.yaml"]
    assert (repo.directory / ".git/index").read_bytes() == before
    assert not ran.exists(), "a program that the repository names"


def empty(index: Path) -> None:
    os.truncate(index, 0)


def cut(index: Path) -> None:
    os.truncate(index, index.stat().st_size // 2)


def garbage(index: Path) -> None:
    index.write_bytes(b"x" * 300)


def directory(index: Path) -> None:
    index.unlink()
    index.mkdir()


def pipe(index: Path) -> None:
    index.unlink()
    os.mkfifo(index)


@pytest.mark.parametrize("damage", [empty, cut, garbage, directory, pipe])
def test_an_index_that_nobody_can_read_is_told_with_a_way_out(repo: Repo, damage: object) -> None:
    assert callable(damage)
    damage(repo.directory / ".git/index")
    base = repo.git("rev-parse", "HEAD")
    assert len(list(files.of_working_tree(repo.directory))) == 4, "validate needs none"
    with pytest.raises(CommandError, match="git's index cannot be read: ") as refused:
        WorkingTree(repo.directory).edited_since(base)
    hint = refused.value.hint or ""
    command = hint.partition(": ")[2]
    rm, reset = command.split(" && ")
    subprocess.run(shlex.split(rm), cwd=repo.directory, check=True)
    assert reset == "git reset"
    repo.git("reset", "-q")
    assert WorkingTree(repo.directory).edited_since(base) == {}
