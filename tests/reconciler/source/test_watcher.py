"""The watch matrix: what people do to a repository, each of which has to wake us at once."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.source.source import Source
from reconciler.source.watcher import Watcher
from tests.harness.repo import Repo

# An event takes some milliseconds; the poll behind it a second. In between lies what is tested.
WOKEN_S = 0.8
# In a second, of this process: five are its own.
SWITCHES_MAX = 40


def merge(repo: Repo) -> None:
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "topic")


def rebase(repo: Repo) -> None:
    repo.git("checkout", "-q", "topic")
    repo.git("rebase", "-q", "main")
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--ff-only", "topic")


def packed_then_commit(repo: Repo) -> None:
    repo.git("pack-refs", "--all")
    repo.git("gc", "-q")
    repo.commit({"a.yaml": "packed"})


def tag_then_commit(repo: Repo) -> None:
    repo.git("tag", "v1")
    repo.git("tag", "-m", "nested", "team/v2")
    repo.commit({"a.yaml": "tagged"})


ACTIONS: dict[str, Callable[[Repo], object]] = {
    "commit": lambda repo: repo.commit({"a.yaml": "2"}),
    "amend": lambda repo: repo.git("commit", "-q", "--amend", "--allow-empty", "-m", "amended"),
    "revert": lambda repo: repo.revert("HEAD"),
    "merge": merge,
    "rebase": rebase,
    "reset": lambda repo: repo.git("reset", "-q", "--hard", "HEAD~1"),
    "tag then commit": tag_then_commit,
    "gc then commit": packed_then_commit,
    "update-ref": lambda repo: repo.git("update-ref", "refs/heads/main", "HEAD~1"),
}


async def woken_by(source: Source, action: Callable[[], object]) -> bool:
    """Whether the ref is seen to be another soon after `action`, by a wake-up and not by a poll."""
    woken = asyncio.Event()
    watcher = Watcher(woken.set)
    watcher.watch(*source.watched())
    await woken.wait()  # It stands.
    # Neither is anybody woken by the look.
    before = source.head().commit
    woken.clear()
    await asyncio.to_thread(action)
    try:
        async with asyncio.timeout(WOKEN_S):
            while source.head().commit == before:
                await woken.wait()
                woken.clear()
    except TimeoutError:
        return False
    finally:
        watcher.stop()
    return True


@pytest.mark.parametrize("name", ACTIONS)
def test_it_wakes(repo: Repo, name: str) -> None:
    for number in range(2):
        repo.commit({"a.yaml": str(number)})
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit({"b.yaml": "topic"})
    repo.git("checkout", "-q", "main")
    repo.commit({"c.yaml": "main"})
    source = Source(repo.directory, None)
    assert asyncio.run(woken_by(source, lambda: ACTIONS[name](repo)))


def test_it_wakes_on_a_push_into_a_bare_repository(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "1"})
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", repo.directory, bare], check=True)
    source = Source(bare, None)
    repo.commit({"a.yaml": "2"})
    assert asyncio.run(woken_by(source, lambda: repo.git("push", "-q", str(bare), "main")))


def test_it_wakes_on_a_commit_in_a_linked_worktree(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "1"})
    linked = tmp_path / "linked"
    repo.git("worktree", "add", "-q", "-b", "team/side", str(linked))
    source = Source(linked, None)
    (linked / "a.yaml").write_text("2")
    commit = ["git", "-C", str(linked), "-c", "user.name=x", "-c", "user.email=x@y"]
    commit += ["commit", "-qam", "second"]
    assert asyncio.run(woken_by(source, lambda: subprocess.run(commit, check=True)))


@pytest.mark.parametrize("place", ["beside", "far", "link", "submodule"])
def test_it_wakes_where_the_git_directory_lies_elsewhere(tmp_path: Path, place: str) -> None:
    work = tmp_path / "work"
    if place == "submodule":
        outer, inner = Repo(tmp_path / "outer"), Repo(tmp_path / "inner")
        inner.commit({"conf/a.yaml": "1"})
        allowed = ("-c", "protocol.file.allow=always")
        outer.git(*allowed, "submodule", "--quiet", "add", str(inner.directory), "sub")
        work = outer.directory / "sub"
    elsewhere = tmp_path / ("gd" if place == "beside" else "some/where/gd")
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    repo = Repo(work)
    if place in ("beside", "far"):
        repo.git("init", "--quiet", f"--separate-git-dir={elsewhere}")
    elif place == "link":
        (work / ".git").rename(elsewhere)
        (work / ".git").symlink_to(elsewhere)
    repo.commit({"conf/a.yaml": "1", "b.yaml": "1"})
    source = Source(work / "conf", None)
    assert source.changed(None, source.head().tree).files == {"a.yaml": b"1"}
    assert asyncio.run(woken_by(source, lambda: repo.commit({"conf/a.yaml": "2"})))
    assert Source(work, None).changed(None, source.head_of("HEAD").tree).files == {"a.yaml": b"2"}


def test_it_wakes_in_a_repository_whose_name_is_not_utf_8(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = os.fsencode(tmp_path) + b"/caf\xe9"
    repo = Repo(Path(os.fsdecode(directory)))
    repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    assert asyncio.run(woken_by(source, lambda: repo.commit({"a.yaml": "2"})))
    assert capfd.readouterr().err == "", "nothing was said of a watch that failed"
    opened = [os.path.realpath(os.fsencode(each)) for each in Path("/proc/self/fd").iterdir()]
    assert not any(each.startswith(directory) and os.path.isdir(each) for each in opened)


def test_a_link_that_leads_to_another_repository_is_followed_there(tmp_path: Path) -> None:
    repos = [Repo(tmp_path / name) for name in ("one", "two")]
    heads = [repo.commit({"a.yaml": repo.directory.name}) for repo in repos]
    work = tmp_path / "work"
    work.mkdir()
    for turn, make in enumerate((_file, _link, _file)):
        repo = repos[turn % 2]
        make(work, repo)
        if turn == 0:
            source = Source(work, None)
        assert source.head().commit == heads[turn % 2]
    (work / ".git").unlink()
    assert source.head().commit == heads[0], "a working tree that is gone ends nothing"


def _link(work: Path, repo: Repo) -> None:
    (work / ".git").unlink(missing_ok=True)
    (work / ".git").symlink_to(repo.directory / ".git")


def _file(work: Path, repo: Repo) -> None:
    (work / ".git").unlink(missing_ok=True)
    (work / ".git").write_text(f"gitdir: {repo.directory / '.git'}\n")


def test_it_wakes_when_a_branch_in_a_new_directory_appears(repo: Repo) -> None:
    commit = repo.commit({"a.yaml": "1"})
    repo.git("branch", "env/prod")
    repo.git("pack-refs", "--all", "--prune")
    source = Source(repo.directory, "env/prod")
    assert source.head().commit == commit
    second = repo.commit({"a.yaml": "2"})
    assert asyncio.run(woken_by(source, lambda: repo.git("branch", "-f", "env/prod", second)))


def test_what_moves_before_a_watch_stands_is_seen(repo: Repo) -> None:
    """As when files outside of the repository come to be watched by a commit."""
    repo.commit({"a.yaml": "1"})

    async def moved_meanwhile() -> None:
        source, woken = Source(repo.directory, None), asyncio.Event()
        watcher = Watcher(woken.set)
        watcher.watch(*source.watched())
        # The loop does not turn, so that nothing is watched yet.
        repo.commit({"a.yaml": "2"})
        async with asyncio.timeout(WOKEN_S):
            await woken.wait()
        watcher.stop()

    asyncio.run(moved_meanwhile())


def test_watching_what_is_watched_already_changes_nothing(repo: Repo) -> None:
    repo.commit({"a.yaml": "1"})

    async def twice() -> None:
        source = Source(repo.directory, None)
        watcher = Watcher(lambda: None)
        watcher.watch(*source.watched())
        tasks = list(watcher._tasks)
        watcher.watch(*source.watched())
        assert watcher._tasks == tasks
        watcher.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        watcher.watch(*source.watched())
        assert watcher._tasks != tasks
        watcher.stop()

    asyncio.run(twice())


def test_nobody_is_woken_while_nothing_moves(repo: Repo) -> None:
    """Nor by what a look reads."""
    repo.commit({"a.yaml": "1"})
    source = Source(repo.directory, None)
    told: list[None] = []

    async def idle() -> int:
        watcher = Watcher(lambda: told.append(None))
        watcher.watch(*source.watched())
        await asyncio.sleep(0.3)
        told.clear()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        for _ in range(5):
            source.head()
            await asyncio.sleep(0.2)
        watcher.stop()
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before

    switches = asyncio.run(idle())
    print(f"{switches} switches in a second")
    assert (told, switches < SWITCHES_MAX) == ([], True)


def test_a_storm_of_events_is_looked_at_now_and_then(repo: Repo) -> None:
    repo.commit({"a.yaml": "1"})
    told: list[float] = []

    async def storm() -> None:
        loop = asyncio.get_running_loop()
        watcher = Watcher(lambda: told.append(loop.time()))
        watcher.watch(*Source(repo.directory, None).watched())
        await asyncio.sleep(0.3)
        told.clear()
        ends = loop.time() + 1.0
        while loop.time() < ends:
            (repo.directory / ".git" / "FETCH_HEAD").write_text("")
            await asyncio.sleep(0.002)
        moved = loop.time()
        await asyncio.sleep(0.2)
        watcher.stop()
        assert 5 < len(told) < 25
        assert told[-1] >= moved - 0.002, "what moved last is looked at as well"

    asyncio.run(storm())
