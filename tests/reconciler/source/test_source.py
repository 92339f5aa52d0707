from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from reconciler.errors import UnreadableError
from reconciler.language.document import FILE_BYTES_MAX
from reconciler.source.git.applied import APPLIED_REF, Applier
from reconciler.source.git.objects import Objects
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Source
from reconciler.stalling import HurriedError, hurried
from tests.harness.repo import Repo

ME = Applier("me", "refs/heads/main")


def test_it_follows_the_branch_that_head_names_at_the_start(repo: Repo) -> None:
    first = repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    assert source.ref == "refs/heads/main"
    assert source.head().commit == first
    repo.git("checkout", "-q", "-b", "other")
    repo.commit({"a.yaml": "2"})
    assert source.head().commit == first, "HEAD moved to another branch, ours did not"
    repo.git("checkout", "-q", "main")
    second = repo.commit({"a.yaml": "3"})
    assert source.head().commit == second


@pytest.mark.parametrize("name", ["production", "refs/heads/production"])
def test_it_follows_the_ref_that_it_is_told(repo: Repo, name: str) -> None:
    repo.commit({"a.yaml": "1"})
    repo.git("branch", "production")
    repo.commit({"a.yaml": "2"})
    source = Source(repo.directory, name)
    assert source.head().commit == repo.git("rev-parse", "production")
    assert source.shown_ref == "production"


def test_a_detached_head_is_followed_as_head(repo: Repo) -> None:
    commit = repo.commit({"a.yaml": "1"})
    repo.git("checkout", "-q", "--detach")
    source = Source(repo.directory, None)
    assert (source.ref, source.head().commit) == ("HEAD", commit)


def test_a_subdirectory_is_the_config_directory(repo: Repo) -> None:
    repo.commit({"proxy/conf/a.yaml": "1", "other/b.yaml": "2", "c.yaml": "3"})
    source = Source(repo.directory / "proxy" / "conf", None)
    changed = source.changed(None, source.head().tree)
    assert changed.files == {"a.yaml": b"1"}


def test_a_bare_repository(repo: Repo, tmp_path: Path) -> None:
    commit = repo.commit({"a.yaml": "1"})
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", repo.directory, bare], check=True)
    source = Source(bare, None)
    assert source.head().commit == commit
    assert source.changed(None, source.head().tree).files == {"a.yaml": b"1"}


def test_a_linked_worktree_has_its_refs_in_the_common_directory(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "1"})
    linked = tmp_path / "linked"
    repo.git("worktree", "add", "-q", "-b", "side", str(linked))
    source = Source(linked, None)
    assert source.ref == "refs/heads/side"
    alone, deep = source.watched()
    assert alone == [repo.directory / ".git", repo.directory / ".git/worktrees/linked"]
    assert deep == [repo.directory / ".git" / "refs"]


def test_only_committed_content_counts(repo: Repo) -> None:
    repo.commit({"a.yaml": "committed"})
    repo.write({"a.yaml": "edited", "b.yaml": "new"})
    repo.git("add", "--all")
    source = Source(repo.directory, None)
    assert source.changed(None, source.head().tree).files == {"a.yaml": b"committed"}


def test_it_survives_packing(repo: Repo) -> None:
    repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    base = source.head()
    for number in range(5):
        repo.git("gc", "-q", "--prune=now")
        repo.git("pack-refs", "--all")
        commit = repo.commit({"a.yaml": f"{number + 2}"})
        head = source.head()
        assert head.commit == commit
        assert source.changed(base.tree, head.tree).files == {"a.yaml": b"%d" % (number + 2)}


def test_rewritten_history_is_a_difference_of_two_trees(repo: Repo) -> None:
    repo.commit({"a.yaml": "1", "b.yaml": "1"})
    source = Source(repo.directory, None)
    base = source.head()
    repo.git("checkout", "-q", "--orphan", "fresh")
    repo.commit({"b.yaml": "2", "a.yaml": None, "c.yaml": "3"})
    repo.git("branch", "-f", "main", "fresh")
    changed = source.changed(base.tree, source.head().tree)
    assert changed.files == {"a.yaml": None, "b.yaml": b"2", "c.yaml": b"3"}
    assert source.superseded(base.commit, source.head().commit) == []


def test_a_base_that_is_gone_means_everything(repo: Repo) -> None:
    repo.commit({"a.yaml": "1", "b.yaml": "1"})
    source = Source(repo.directory, None)
    changed = source.changed("ab" * 20, source.head().tree)
    assert changed.full
    assert changed.files == {"a.yaml": b"1", "b.yaml": b"1"}


def test_the_applied_commit_outlives_force_push_and_gc(repo: Repo) -> None:
    old = repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    base = source.head()
    source.repository.applied.mark(old, ME)
    assert repo.git("rev-parse", APPLIED_REF) == old
    repo.git(
        "commit", "-q", "--amend", "-m", "other", "--allow-empty", "--date=2001-01-01T00:00:00"
    )
    repo.commit({"a.yaml": "2"})
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")
    changed = Source(repo.directory, None).changed(base.tree, source.head().tree)
    assert not changed.full


def test_a_deleted_branch_is_held(repo: Repo) -> None:
    repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    source.head()
    repo.git("checkout", "-q", "-b", "other")
    repo.git("branch", "-D", "main")
    with pytest.raises(RepositoryError, match="branch main does not exist"):
        source.head()


def test_a_branch_without_commits_is_held(repo: Repo) -> None:
    source = Source(repo.directory, None)
    with pytest.raises(RepositoryError, match="branch main does not exist"):
        source.head()


def test_a_repository_that_vanishes_and_comes_back(repo: Repo) -> None:
    repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    source.head()
    shutil.rmtree(repo.directory)
    with pytest.raises(RepositoryError):
        source.head()
    again = Repo(repo.directory)
    commit = again.commit({"a.yaml": "2"})
    assert source.head().commit == commit


@pytest.mark.parametrize("files", [{}, {"README.md": "x"}, {".hidden.yaml": "x"}])
def test_a_commit_without_configuration_is_held(repo: Repo, files: dict[str, str]) -> None:
    repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    base = source.head()
    repo.commit({"a.yaml": None, **files})
    with pytest.raises(RepositoryError, match="the commit holds no configuration"):
        source.changed(base.tree, source.head().tree)


def test_removing_one_of_two_files_is_no_reason_to_hold(repo: Repo) -> None:
    repo.commit({"a.yaml": "1", "b.yaml": "1"})
    source = Source(repo.directory, None)
    base = source.head()
    repo.commit({"a.yaml": None})
    assert source.changed(base.tree, source.head().tree).files == {"a.yaml": None}


def test_a_commit_that_removes_the_config_directory_is_held(repo: Repo) -> None:
    repo.commit({"conf/a.yaml": "1", "x": "1"})
    source = Source(repo.directory / "conf", None)
    source.head()
    repo.commit({"conf/a.yaml": None})
    with pytest.raises(RepositoryError, match="has no directory conf"):
        source.head()


def test_a_huge_file_is_not_read_into_memory(repo: Repo) -> None:
    repo.commit({"a.yaml": "x" * (FILE_BYTES_MAX * 3)})
    source = Source(repo.directory, None)
    content = source.changed(None, source.head().tree).files["a.yaml"]
    assert content is not None
    assert len(content) == FILE_BYTES_MAX + 1


def test_links_are_warned_about(repo: Repo) -> None:
    repo.write({"a.yaml": "1"})
    (repo.directory / "b.yaml").symlink_to("/etc/passwd")
    repo.commit()
    source = Source(repo.directory, None)
    changed = source.changed(None, source.head().tree)
    assert list(changed.files) == ["a.yaml"]
    (warning,) = changed.warnings
    assert warning.render() == "b.yaml: warning: b.yaml is a symbolic link: it is left out"


def test_what_was_overtaken_is_known(repo: Repo) -> None:
    commits = [repo.commit({"a.yaml": str(number)}) for number in range(4)]
    source = Source(repo.directory, None)
    assert source.superseded(commits[0], commits[3]) == commits[1:3]
    assert source.superseded(commits[3], commits[0]) == [], "a rollback overtakes nothing"
    assert source.superseded(None, commits[3]) == []


def test_names_of_commits(repo: Repo) -> None:
    first = repo.commit({"a.yaml": "1"}, "Add shop\n\nKakehi-Allow: x")
    second = repo.commit({"a.yaml": "2"})
    source = Source(repo.directory, None)
    assert source.head_of(first[:9]).commit == first
    assert source.head_of("HEAD~1").commit == first
    with pytest.raises(RepositoryError, match="'nonsense' names no commit"):
        source.head_of("nonsense")
    note = source.note(first)
    assert (note.subject, note.author) == ("Add shop", "Kakehi tests <tests@kakehi.test>")
    assert source.message(first) == "Add shop\n\nKakehi-Allow: x\n"
    assert source.is_descendant(second, first)
    assert not source.is_descendant(first, second)
    assert not source.is_descendant(first, "e" * 40)


def test_nothing_runs_in_a_repository_of_somebody_else(repo: Repo) -> None:
    repo.commit({"a.yaml": "1"})
    marker = repo.directory / "ran"
    hook = repo.directory / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    repo.git("config", "core.fsmonitor", f"touch {marker}")
    source = Source(repo.directory, None)
    source.changed(None, source.head().tree)
    source.repository.applied.mark(source.head().commit, ME)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["a..b", "with space", "ends.lock"])
def test_a_name_that_is_none_is_a_sentence(repo: Repo, name: str) -> None:
    repo.commit({"a.yaml": "1"})
    with pytest.raises(RepositoryError, match="is not a valid branch name"):
        Source(repo.directory, name).head()


def test_a_directory_without_git_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is not in a git repository"):
        Source(tmp_path, None).head()
    with pytest.raises(RepositoryError, match="is not a directory"):
        Source(tmp_path / "nowhere", None).head()


def test_a_ref_that_is_not_there_is_told_with_the_nearest_name(repo: Repo) -> None:
    repo.commit({"a.yaml": "1"})
    repo.git("branch", "team/production")
    repo.git("tag", "v1.0")
    for given, meant in (("mian", "main"), ("team/prodution", "team/production"), ("v1.1", "v1.0")):
        source = Source(repo.directory, given)
        assert not source.is_there
        for ask in (source.check_ref, source.head, partial(source.head_of, given)):
            with pytest.raises(RepositoryError, match=f'did you mean "{meant}"'):
                ask()
    with pytest.raises(RepositoryError, match=r"branch zzz does not exist in \S+$"):
        Source(repo.directory, "zzz").check_ref()


def test_a_branch_that_somebody_has_yet_to_commit_to_is_waited_for(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fresh")
    for given in (None, "main", "production"):
        source = Source(repo.directory, given)
        source.check_ref()
        assert not source.is_there
    repo.commit({"a.yaml": "1"})
    Source(repo.directory, "main").check_ref()
    repo.git("checkout", "-q", "--orphan", "next")
    Source(repo.directory, None).check_ref()
    with pytest.raises(RepositoryError, match="branch production does not exist"):
        Source(repo.directory, "production").check_ref()
    Source(repo.directory, "production", "origin").check_ref()


def clone(repo: Repo, place: Path, *options: str) -> Repo:
    for name in ("allowfilter", "allowanysha1inwant"):
        repo.git("config", f"uploadpack.{name}", "true")
    repo.git("clone", "-q", "--no-local", *options, f"file://{repo.directory}", str(place))
    return Repo(place)


def test_a_shallow_clone(repo: Repo, tmp_path: Path) -> None:
    for number in range(3):
        last = repo.commit({"a.yaml": str(number)})
    source = Source(clone(repo, tmp_path / "shallow", "--depth=1").directory, None)
    head = source.head()
    assert (head.commit, source.changed(None, head.tree).files) == (last, {"a.yaml": b"2"})
    assert source.superseded("ab" * 20, last) == []
    assert not source.is_descendant(last, repo.git("rev-parse", "HEAD~1"))


def test_a_partial_clone_says_how_to_make_it_whole(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "1"})
    partial = clone(repo, tmp_path / "partial", "--filter=blob:none")
    source = Source(partial.directory, None)
    assert source.changed(None, source.head().tree).files == {"a.yaml": b"1"}, "git had to have it"
    second = repo.commit({"a.yaml": "2"})
    partial.git("fetch", "-q", "origin")
    partial.git("update-ref", "refs/heads/main", second)
    head = source.head()
    with pytest.raises(RepositoryError, match="this is a partial clone") as caught:
        source.changed(None, head.tree)
    [command] = re.findall("`(.*)`", str(caught.value))
    subprocess.run(["sh", "-c", command], check=True, timeout=60)
    assert source.changed(None, head.tree).files == {"a.yaml": b"2"}
    third = repo.commit({"a.yaml": "3"})
    partial.git("fetch", "-q", "origin")
    partial.git("update-ref", "refs/heads/main", third)
    assert source.changed(None, source.head().tree).files == {"a.yaml": b"3"}, "it stays whole"


def without(repo: Repo, spec: str) -> Path:
    """Take an object away for now, as a file system does that is a little behind."""
    oid = repo.git("rev-parse", spec)
    path = repo.directory / ".git" / "objects" / oid[:2] / oid[2:]
    path.rename(path.with_suffix(".away"))
    return path


@pytest.mark.parametrize("spec", ["HEAD", "HEAD^{tree}", "HEAD:proxy", "HEAD:proxy/conf"])
def test_what_cannot_be_read_yet_is_not_taken_for_empty(repo: Repo, spec: str) -> None:
    repo.commit({"proxy/conf/a.yaml": "1", "proxy/conf/tls/a.pem": "2", "b.txt": "3"})
    missing = without(repo, spec)
    for place in ((repo.directory / "proxy" / "conf"), repo.directory):
        source = Source(place, "main")
        with pytest.raises(RepositoryError, match="cannot be read") as caught:
            source.changed(None, source.head().tree)
        assert type(caught.value) is RepositoryError, "it is not refused, but tried again"
    missing.with_suffix(".away").rename(missing)
    source = Source(repo.directory / "proxy" / "conf", "main")
    changed = source.changed(None, source.head().tree)
    assert changed.files == {"a.yaml": b"1"}
    assert source.read_file(changed, "tls/a.pem") == b"2"
    for path in ("tls/b.pem", "tls", "a.yaml/x", "gone/a.pem", ""):
        why = "a directory" if path == "tls" else "not in the commit"
        with pytest.raises(UnreadableError, match=why):
            source.read_file(changed, path)
    missing = without(repo, "HEAD:proxy/conf/tls")
    source = Source(repo.directory / "proxy" / "conf", "main")
    with pytest.raises(RepositoryError, match="cannot be read"):
        source.read_file(changed, "tls/a.pem")


def test_a_link_that_leads_to_itself_is_told(repo: Repo, tmp_path: Path) -> None:
    """What it led to is there still, and nobody means that any more."""
    current = tmp_path / "current"
    current.symlink_to(repo.directory)
    repo.commit({"a.yaml": "a: 1"})
    source = Source(current, None)
    head = source.head()
    current.unlink()
    current.symlink_to("current")
    with pytest.raises(RepositoryError, match="current leads to itself by its symbolic links"):
        source.head()
    current.unlink()
    current.symlink_to(repo.directory)
    assert source.head() == head


@pytest.mark.parametrize("ref", ["applied", "applied-by"])
def test_a_lock_that_a_killed_daemon_left_is_broken(tmp_path: Path, ref: str) -> None:
    repo = Repo(tmp_path / "repository")
    commit = repo.commit({"a.yaml": "{}"})
    lock = repo.directory / ".git" / "refs" / "kakehi" / f"{ref}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (0, 0))
    applied = Source(repo.directory, "main").repository.applied
    applied.mark(commit, ME)
    assert applied.by(ME) == "refs/kakehi/applied"
    assert repo.git("rev-parse", "refs/kakehi/applied").strip() == commit


def test_large_json_is_not_read_to_tell_whose_it_is(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit({"a.yaml": "clusters: {}\n"})
    source = Source(repo.directory, None)
    base = source.head().tree
    of_others = '{"rows": [' + '"row", ' * 20_000 + "1]}"
    fixtures = {f"fixtures/{number}.json": f"{of_others}{number}" for number in range(10)}
    repo.commit({**fixtures, "ours.json": '{"clusters": {}}'})
    sizes: list[int] = []
    read = Objects._read

    def noted(self: Objects, oid: bytes, kind: str) -> bytes:
        content = read(self, oid, kind)
        sizes.append(len(content))
        return content

    monkeypatch.setattr(Objects, "_read", noted)
    found = source.changed(base, source.head().tree, 8)
    assert max(sizes) < 10_000
    assert [each.file for each in found.warnings] == ["ours.json"]


def test_on_the_loop_a_look_takes_no_longer_than_a_moment(repo: Repo) -> None:
    base = repo.commit({"a.yaml": "clusters: {}\n"})
    files = {f"many/{number}/a/b/c/d.json": f"{number}" for number in range(1000)}
    repo.commit({**files})
    source = Source(repo.directory, None)
    tree = source.head_of(base).tree
    with pytest.raises(HurriedError), hurried():
        source.changed(tree, source.head().tree, 10_000)
    assert not source.changed(tree, source.head().tree, 10_000).files
