"""The refs of what several daemons have applied: each has its own, and who is gone has none."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.source.git import applied as module
from reconciler.source.git.applied import APPLIED_REF, AppliedCommits, Applier, TwinError
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Source
from tests.harness.repo import Repo

MAIN, STAGING = "refs/heads/main", "refs/heads/staging"
OTHERS = "refs/kakehi/applied-by-others"


def appliers(repo: Repo) -> AppliedCommits:
    return Source(repo.directory, "main").repository.applied


def others(repo: Repo) -> list[str]:
    return repo.git("for-each-ref", "--format=%(refname)", OTHERS).split()


def test_another_place_is_the_same_daemon(repo: Repo) -> None:
    old, new = repo.commit({"a.yaml": "1"}), repo.commit({"a.yaml": "2"})
    applied, me = appliers(repo), Applier("me", MAIN, "pod-1:/state")
    applied.mark(old, me)
    elsewhere = replace(me, place="pod-2:/other")
    assert applied.by(elsewhere) == APPLIED_REF
    applied.mark(new, elsewhere)
    assert applied.by(me) == APPLIED_REF
    assert repo.git("rev-parse", APPLIED_REF) == new


def test_what_was_applied_is_told_by_what_is_followed(repo: Repo) -> None:
    first, second = repo.commit({"a.yaml": "1"}), repo.commit({"a.yaml": "2"})
    applied = appliers(repo)
    one, two = Applier("one", MAIN, "a:/x"), Applier("two", STAGING, "b:/y")
    assert applied.on(MAIN) == []
    applied.mark(first, one)
    applied.mark(second, two)
    assert next(each.by for each in applied.on(STAGING)) == two
    [found] = applied.on(MAIN)
    assert found.by == one
    assert found.ref == applied.by(one)
    assert repo.git("rev-parse", f"{found.ref}^{{commit}}") == first
    assert "error" not in repo.git("fsck", "--strict")
    repo.git("pack-refs", "--all")
    assert [each.by for each in appliers(repo).on(MAIN)] == [one]


def test_where_nothing_says_whose_it_is_it_is_anybodys(repo: Repo) -> None:
    repo.git("update-ref", APPLIED_REF, repo.commit({"a.yaml": "1"}))
    assert [each.ref for each in appliers(repo).on(MAIN)] == [APPLIED_REF]


def test_while_it_changes_hands_it_is_nobodys(repo: Repo) -> None:
    """Each has its own place by then."""
    applied = appliers(repo)
    applied.mark(repo.commit({"a.yaml": "1"}), Applier("me", MAIN))
    empty = repo.git("hash-object", "-w", "/dev/null")
    repo.git("update-ref", f"{APPLIED_REF}-by", empty)
    assert applied.on(MAIN) == []


def test_two_processes_of_one_id_are_two(repo: Repo) -> None:
    old, new = repo.commit({"a.yaml": "1"}), repo.commit({"a.yaml": "2"})
    applied = appliers(repo)
    mine, copied = Applier("me", MAIN, "a:/x", "1"), Applier("me", MAIN, "b:/y", "2")
    assert applied.mark(old, mine)
    assert applied.mark(new, mine, again=True)
    # One that has just begun cannot know: it may be what comes behind. It says so later.
    assert not applied.mark(old, copied)
    applied.claim(old, copied)
    with pytest.raises(TwinError) as raised:
        applied.altered(new, mine)
    assert raised.value.twin == copied
    with pytest.raises(TwinError) as raised:
        applied.mark(new, mine, again=True)
    assert raised.value.twin == copied
    assert repo.git("rev-parse", APPLIED_REF) == old
    assert applied.mark(new, replace(mine, id="other"))
    assert repo.git("rev-parse", f"{applied.by(copied)}^{{commit}}") == old
    # What is another's by now is not claimed.
    applied.claim(old, copied)
    assert applied.by(replace(mine, id="other")) == APPLIED_REF
    assert applied.altered(new, replace(mine, id="other")) is None
    # And a twin is found in the place of its own as well.
    assert applied.altered(old, copied) is None
    with pytest.raises(TwinError):
        applied.altered(old, mine)


def test_what_somebody_has_made_of_it_is_found(repo: Repo) -> None:
    old, new = repo.commit({"a.yaml": "1"}), repo.commit({"a.yaml": "2"})
    applied = appliers(repo)
    me, other = Applier("me", MAIN), Applier("other", MAIN)

    def again() -> None:
        assert applied.altered(new, me)
        applied.mark(new, me)
        assert applied.altered(new, me) is None

    applied.mark(new, me)
    assert applied.altered(new, me) is None
    repo.git("pack-refs", "--all")
    assert applied.altered(new, me) is None
    repo.git("update-ref", APPLIED_REF, old)
    assert applied.altered(new, me) == f"{APPLIED_REF} was moved to {old[:12]}"
    again()
    repo.git("update-ref", "-d", APPLIED_REF)
    assert applied.altered(new, me) == f"{APPLIED_REF} was deleted"
    again()
    repo.git("update-ref", "-d", f"{APPLIED_REF}-by")
    assert applied.altered(new, me) == f"{APPLIED_REF}-by was deleted"
    again()
    # Whoever has applied something since has left ours in a place of its own.
    applied.mark(old, other)
    assert applied.altered(new, me) is None
    empty = repo.git("hash-object", "-w", "/dev/null")
    repo.git("update-ref", f"{APPLIED_REF}-by", empty)
    assert applied.altered(new, me) is None
    repo.git("update-ref", "-d", me.ref)
    assert applied.altered(new, me) == f"{me.ref} was deleted"
    again()


def test_those_of_others_are_bounded(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that begins with nothing each hour."""
    monkeypatch.setattr(module, "_OTHERS_MAX", 3)
    commit = repo.commit({"a.yaml": "1"})
    applied = appliers(repo)
    for number in range(8):
        applied.mark(commit, Applier(f"{number}", MAIN))
    repo.git("pack-refs", "--all")
    applied.renew(commit, Applier("7", MAIN))
    assert len(others(repo)) == 3
    assert applied.by(Applier("7", MAIN)) == APPLIED_REF


def test_who_is_gone_for_long_is_forgotten_and_who_runs_is_not(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repo.commit({"a.yaml": "1"})
    applied = appliers(repo)
    runs, gone, owner = (Applier(name, MAIN) for name in ("runs", "gone", "owner"))
    for each in (gone, runs, owner):
        applied.mark(commit, each)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + module.OLD_S / 2)
    applied.renew(commit, runs)
    assert applied.by(gone) is not None
    monkeypatch.setattr(module.time, "time", lambda: now + module.OLD_S + 60)
    applied.renew(commit, owner)
    assert applied.by(gone) is None
    assert applied.by(runs) is not None
    assert others(repo) == [runs.ref]


def test_what_is_not_ours_there_is_no_failure(repo: Repo, tmp_path: Path) -> None:
    """Somebody's refs, and a text of an earlier form."""
    commit = repo.commit({"a.yaml": "1"})
    repo.git("update-ref", f"{OTHERS}/x", commit)
    repo.git("update-ref", APPLIED_REF, commit)
    text = tmp_path / "text"
    text.write_bytes(os.fsencode("machine:/state\udcff"))
    blob = subprocess.check_output(
        ["git", "-C", repo.directory, "hash-object", "-w", text], text=True
    ).strip()
    repo.git("update-ref", f"{APPLIED_REF}-by", blob)
    applied, me = appliers(repo), Applier("me", MAIN)
    assert [each.ref for each in applied.on(MAIN)] == [APPLIED_REF], "it may be anybody's"
    assert applied.by(me) is None
    applied.mark(commit, me)
    applied.renew(commit, me)
    assert applied.by(me) == APPLIED_REF
    assert others(repo) == []


def test_a_commit_that_is_nowhere_is_no_ref(repo: Repo) -> None:
    """A tag of it would end each `git gc`."""
    commit = repo.commit({"a.yaml": "1"})
    applied, me, other = appliers(repo), Applier("me", MAIN), Applier("other", MAIN)
    applied.mark(commit, me)
    for change in (applied.mark, applied.renew):
        with pytest.raises(RepositoryError, match="commit abababababab is not here"):
            change("ab" * 20, other)
    assert applied.by(me) == APPLIED_REF
    repo.git("gc", "-q", "--prune=now")


def test_a_lock_of_another_git_is_named(repo: Repo) -> None:
    applied, commit = appliers(repo), repo.commit({"a.yaml": "1"})
    applied.mark(commit, Applier("me", MAIN))
    lock = repo.directory / ".git" / f"{APPLIED_REF}.lock"
    lock.touch()
    with pytest.raises(RepositoryError, match=f"git holds {lock}, which is removed when it is 5 s"):
        applied.mark(repo.commit({"a.yaml": "2"}), Applier("me", MAIN))
