"""Fetching with the git program: from repositories that are there, and from what is none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.source.remote import fetch, followed_ref
from reconciler.source.repository import RepositoryError
from tests.harness.ports import address
from tests.harness.repo import Repo


def failure(repo: Repo, remote: str) -> str:
    """What is said when a fetch fails."""
    with pytest.raises(RepositoryError) as raised:
        asyncio.run(fetch(repo.directory / ".git", remote, "refs/heads/main", timeout_s=20))
    return str(raised.value)


def test_the_branch_comes_into_a_ref_of_its_own(repo: Repo, tmp_path: Path) -> None:
    upstream = Repo(tmp_path / "upstream")
    commit = upstream.commit({"a.yaml": "1"})
    asyncio.run(fetch(repo.directory / ".git", str(upstream.directory), "refs/heads/main"))
    assert repo.git("rev-parse", followed_ref(str(upstream.directory), "refs/heads/main")) == commit
    assert repo.git("branch", "--list") == ""


def test_the_password_of_a_url_is_not_said(repo: Repo) -> None:
    said = failure(repo, f"http://joe:hunter2@{address()}/x.git")
    assert "http://(secret)@127.0.0.1" in said
    assert "hunter2" not in said
    assert "joe" not in said


def test_each_remote_has_a_ref_of_its_own() -> None:
    url, branch = "https://joe:a@host/x.git", "refs/heads/feature/x"
    assert followed_ref("origin", branch) == "refs/kakehi/remote/origin/feature/x"
    refs = {followed_ref(each, branch) for each in ("origin", "a/b", "../a", url, url + "2")}
    assert len(refs) == 5
    assert followed_ref(url, branch) == followed_ref("https://joe:b@host/x.git", branch)


def test_the_reason_is_a_whole_sentence(repo: Repo, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    said = failure(repo, str(nothing))
    assert said == (
        f"cannot fetch main from {nothing}: '{nothing}' does not appear to be a git repository"
    )
    upstream = Repo(tmp_path / "upstream")
    upstream.commit({"a.yaml": "1"})
    upstream.git("branch", "-m", "trunk")
    said = failure(repo, str(upstream.directory))
    assert said.endswith(": couldn't find remote ref refs/heads/main")
