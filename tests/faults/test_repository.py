"""What a repository may do to us while traffic flows: F2, F15 to F19 and F25 (D13).

History is never more than two trees that differ; what cannot be read is held, never deleted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import processes
from tests.harness.failing import WATCHES, Failing
from tests.harness.repo import Repo
from tests.harness.site import Site

BURST = 1000
# The poll is a second; the machine may be slow.
POLL_DEADLINE_S = 15.0


def files(site: Site, backend: str, *hosts: str) -> dict[str, Any]:
    frontends = dict.fromkeys(("main", *hosts), "main")
    return {"kakehi.yaml": site.document({"main": [backend]}, frontends)}


def wait_held(site: Site) -> str:
    """Wait until the daemon says that it holds the running state; return why."""

    def problem() -> str:
        source = site.daemon.ask("status")["source"]
        return str(source["problem"]) if source["state"] == "holding" else ""

    processes.wait_until(problem, "the daemon holds", POLL_DEADLINE_S)
    return problem()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For the tests that need no other environment; each begins by a commit of its own."""
    with Site(tmp_path_factory.mktemp("repository"), ["red", "blue"]) as made:
        made.start(files(made, "red"))
        yield made


def test_a_missing_file_is_told_once_for_as_long_as_it_is_missing(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red"))
    log_before = len(site.daemon.log())
    repo, objects = site.repo, site.repo.directory / ".git" / "objects"
    repo.write(files(site, "blue"))
    repo.git("add", "--all")
    blob = repo.git("rev-parse", ":kakehi.yaml").strip()
    sha = repo.git("commit-tree", "-p", "HEAD", "-m", "x", repo.git("write-tree").strip()).strip()
    file, aside = objects / blob[:2] / blob[2:], objects / "aside"
    file.rename(aside)
    repo.git("update-ref", "refs/heads/main", sha)
    assert blob[:7] in wait_held(site)
    processes.pause(4)
    assert site.daemon.ask("status")["source"]["state"] == "holding"
    assert site.daemon.log()[log_before:].count("holding the running state") == 1
    aside.rename(file)
    site.wait(sha)
    assert site.everywhere("main.test") == {"blue"}
    assert site.daemon.ask("status")["source"]["state"] == "following"
    assert site.daemon.log()[log_before:].count("following again") == 1


# F2: a broken commit between two good ones


@pytest.mark.parametrize("seen", [True, False], ids=["each seen", "seen at once"])
def test_a_deletion_in_a_broken_commit_is_made_by_the_next_good_one(
    shared: Site, seen: bool
) -> None:
    site = shared
    gone = {"frontends": {"gone": {"listeners": ["main"], "hostname": "gone.test"}}}
    gone["frontends"]["gone"]["cluster"] = "main"
    site.commit({**files(site, "red"), "gone.yaml": gone})
    generation, _ = site.running()
    assert site.everywhere("gone.test") == {"red"}
    if not seen:
        processes.stop(site.daemon.pid)
    good = site.repo.commit(files(site, "red", "added"), "good")
    if seen:
        site.wait(good)
    broken = site.repo.commit({"gone.yaml": None, "broken.yaml": "clusters: {{"}, "broken")
    if seen:
        assert site.daemon.outcome(broken) == "refused"
        assert site.everywhere("gone.test") == {"red"}
    last = site.repo.commit({"broken.yaml": "clusters: {}\n"}, "mended")
    if not seen:
        processes.resume(site.daemon.pid)
    site.wait(last)
    assert site.everywhere("gone.test") == {"404"}
    assert site.everywhere("added.test") == {"red"}
    assert site.running() == (generation + (2 if seen else 1), site.committed_digest())
    assert site.daemon.ask("status")["last_error"] is None


# F15: history that is not one


def test_a_force_push_of_unrelated_history_is_just_a_difference(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red", "kept"))
    workers = site.identity()
    site.repo.git("checkout", "--quiet", "--orphan", "unrelated")
    sha = site.repo.commit(files(site, "blue", "kept"), "unrelated")
    site.repo.git("branch", "--force", "main", "unrelated")
    site.wait(sha)
    assert site.everywhere("main.test") == {"blue"}
    assert [each["name"] for each in site.history()[0]["changes"]] == ["main/b0"]
    assert site.identity() == workers
    # And back, by a reset to a commit that no branch named any more.
    site.repo.git("checkout", "--quiet", "main")
    site.repo.git("reset", "--quiet", "--hard", "main@{1}")
    site.wait(site.repo.head())
    assert site.everywhere("main.test") == {"red"}


def no_branch(repo: Repo) -> None:
    repo.git("update-ref", "-d", "refs/heads/main")


def missing_object(repo: Repo) -> None:
    (repo.directory / ".git" / "refs" / "heads" / "main").write_text("1" * 40 + "\n")


def garbage(repo: Repo) -> None:
    (repo.directory / ".git" / "refs" / "heads" / "main").write_text("not a commit at all\n")


def empty_tree(repo: Repo) -> None:
    repo.git("rm", "-r", "--quiet", ".")
    repo.git("commit", "--quiet", "-m", "nothing is left")


def no_repository(repo: Repo) -> None:
    shutil.move(repo.directory / ".git", repo.directory / "moved")


WAYS = [no_branch, missing_object, garbage, empty_tree, no_repository]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_gone_or_empty_is_held_and_never_deletes_everything(shared: Site, way: Any) -> None:
    site = shared
    before = site.running()
    head = site.repo.head()
    bodies = site.everywhere("main.test")
    way(site.repo)
    assert wait_held(site)
    assert site.running() == before
    assert site.everywhere("main.test") == bodies

    if way is no_repository:
        shutil.move(site.repo.directory / "moved", site.repo.directory / ".git")
    (site.repo.directory / ".git" / "refs" / "heads" / "main").write_text(f"{head}\n")
    site.repo.git("reset", "--quiet", "--hard")
    other = "blue" if bodies == {"red"} else "red"
    site.commit(files(site, other))
    assert site.everywhere("main.test") == {other}
    assert site.daemon.ask("status")["source"]["state"] == "following"


def test_nothing_is_told_of_a_repository_that_is_back(shared: Site) -> None:
    """As behind a re-mount: no commit comes that would end what is told."""
    site = shared
    assert site.daemon.ask("status")["warnings"] == []
    no_repository(site.repo)
    assert wait_held(site)
    site.daemon.run_cli("retry")
    shutil.move(site.repo.directory / "moved", site.repo.directory / ".git")
    processes.wait_until(
        lambda: site.daemon.ask("status")["source"]["state"] == "following", "it is followed", 30
    )
    assert site.daemon.ask("status")["warnings"] == []


def test_a_shallow_clone_and_a_bare_repository_are_followed(site: Site, tmp_path: Path) -> None:
    upstream = site.repo
    for backend in ("blue", "red"):
        upstream.commit(files(site, backend))
    bare = tmp_path / "bare.git"
    upstream.git(
        "clone", "--quiet", "--bare", "--depth=1", f"file://{upstream.directory}", str(bare)
    )
    site.daemon.repo = BareRepo(bare)
    site.daemon.start()
    assert site.everywhere("main.test") == {"red"}
    sha = upstream.commit(files(site, "blue"))
    upstream.git("push", "--quiet", str(bare), "HEAD:main")
    site.wait(sha)
    assert site.everywhere("main.test") == {"blue"}
    assert [each["name"] for each in site.history()[0]["changes"]] == ["main/b0"]


class BareRepo(Repo):
    """A bare repository that is there already."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory


@pytest.mark.parametrize("inside", ["", "conf"])
@pytest.mark.parametrize("parent", [False, True])
def test_a_link_that_is_swapped_is_followed(
    site: Site, tmp_path: Path, inside: str, parent: bool
) -> None:
    """Both releases stay where they are: only what the name means has changed."""
    releases = [tmp_path / f"release-{number}" for number in (1, 2)]
    for place, backend in zip(releases, ("red", "blue"), strict=True):
        repository = Repo(place / "site" if parent else place)
        content = files(site, backend)
        repository.commit(
            {f"{inside}/{name}" if inside else name: content[name] for name in content}
        )
    current = tmp_path / "current"
    current.symlink_to("release-1")
    named = current / "site" if parent else current
    site.daemon.repo = Repo(named)
    site.daemon.directory = named / inside
    site.daemon.start()
    assert site.everywhere("main.test") == {"red"}
    swapped = tmp_path / "swapped"
    swapped.symlink_to("release-2")
    swapped.rename(current)
    head = Repo(named).head()
    started = time.monotonic()
    done = site.daemon.run_cli("wait", "--commit", "HEAD")
    assert head[:12] in done.stdout, done
    assert time.monotonic() - started < POLL_DEADLINE_S
    assert site.everywhere("main.test") == {"blue"}
    again = Repo(named)
    content = files(site, "red")
    sha = again.commit({f"{inside}/{name}" if inside else name: content[name] for name in content})
    site.wait(sha)
    assert site.everywhere("main.test") == {"red"}


# F16: objects move and go


def _marked(site: Site) -> str:
    return site.repo.git("rev-parse", "refs/kakehi/applied")


def test_gc_never_takes_the_applied_commit_away(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red", "kept"))
    applied = site.commit(files(site, "blue", "kept"))
    processes.stop(site.daemon.pid)
    # The branch moves to a history of its own, and everything unreachable is thrown away.
    site.repo.git("checkout", "--quiet", "--orphan", "rewritten")
    sha = site.repo.commit(files(site, "red", "kept"), "rewritten")
    site.repo.git("branch", "--force", "main", "rewritten")
    site.repo.git("checkout", "--quiet", "main")
    site.repo.git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    site.repo.git("gc", "--quiet", "--prune=now")
    site.repo.git("pack-refs", "--all")
    assert _marked(site) == applied
    site.repo.git("cat-file", "-e", f"{applied}:kakehi.yaml")
    processes.resume(site.daemon.pid)
    site.wait(sha)
    # It was a difference, and not a load of everything.
    assert site.history()[0]["change_count"] == 1
    assert site.everywhere("main.test") == {"red"}


def test_packing_while_it_follows(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red"))
    for turn in range(4):
        backend = ("blue", "red")[turn % 2]
        sha = site.repo.commit(files(site, backend))
        site.repo.git("gc", "--quiet", "--prune=now")
        site.repo.git("pack-refs", "--all")
        site.wait(sha)
        assert site.everywhere("main.test") == {backend}
        assert site.running()[1] == site.committed_digest()
    assert {entry["outcome"] for entry in site.history(10)} == {"applied"}


# F17: no event ever comes


def test_the_poll_finds_what_no_event_told(site: Site, tmp_path: Path) -> None:
    unwatched = Failing(tmp_path, WATCHES, [site.repo.directory])
    site.start(files(site, "red"), **unwatched.environment)
    assert "watching the repository failed, polling goes on" in site.daemon.log()
    for backend in ("blue", "red"):
        sha = site.repo.commit(files(site, backend))
        began = time.monotonic()
        # Only status is asked: `wait` would make the reconciler look.
        processes.wait_until(partial(runs, site, sha), "the poll applies it", POLL_DEADLINE_S)
        print(f"applied {time.monotonic() - began:.2f} s after the commit")
        assert site.everywhere("main.test") == {backend}


def runs(site: Site, sha: str) -> bool:
    status = site.daemon.ask("status")
    states = {worker["state"] for worker in status["workers"]}
    return status["commit"] == sha and states == {"running"}


# F18: more commits than transactions


def test_commits_while_a_transaction_is_open(site: Site) -> None:
    site.start(files(site, "red"), KAKEHI_FAULT="journal.commit:delay:2")
    generation, _ = site.running()
    first = site.repo.commit(files(site, "blue"))
    processes.wait_until(lambda: processes.is_asleep(site.daemon.pid), "the transaction is open")
    overtaken = [site.repo.commit(files(site, "red", f"h{n}")) for n in range(3)]
    last = site.repo.commit(files(site, "blue", "last"))
    site.wait(last)
    assert site.running() == (generation + 2, site.committed_digest())
    told = {entry["commit"]: entry["outcome"] for entry in site.history(10)}
    assert told[first] == told[last] == "applied"
    assert [told[each] for each in overtaken] == ["superseded"] * 3
    assert site.daemon.outcome(overtaken[0]) == "applied", "a descendant of it runs"


def test_a_thousand_commits_at_once_end_at_the_newest(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red"))
    generation, _ = site.running()
    base = site.repo.head()
    document = (site.repo.directory / "kakehi.yaml").read_text()
    stream = []
    for number in range(BURST):
        text = document.replace('"retries": 2', f'"retries": {number % 10}')
        text = f"# number {number}\n{text}"
        stream.append(
            "commit refs/heads/burst\n"
            f"committer tests <tests@kakehi.test> {1_700_000_000 + number} +0000\n"
            f"data {len(str(number))}\n{number}\n"
            + (f"from {base}\n" if number == 0 else "")
            + f"M 100644 inline kakehi.yaml\ndata {len(text)}\n{text}\n"
        )
    git(site, ["fast-import", "--quiet"], "".join(stream))
    commits = site.repo.git("rev-list", "--reverse", f"{base}..burst").splitlines()
    assert len(commits) == BURST
    moves = "".join(
        f"start\nupdate refs/heads/main {new} {old}\ncommit\n"
        for old, new in zip([base, *commits], commits, strict=False)
    )
    began = time.monotonic()
    git(site, ["update-ref", "--stdin"], moves)
    print(f"the branch moved {BURST} times in {time.monotonic() - began:.2f} s")
    site.wait(commits[-1])
    assert site.running()[1] == site.committed_digest("main")
    assert site.running()[0] - generation < BURST, "nothing was overtaken"
    assert site.daemon.ask("status")["last_error"] is None
    # The site is shared: what others had refused is told there as well.
    ours = [entry for entry in site.history(1000) if entry["commit"] in set(commits)]
    assert {entry["outcome"] for entry in ours} <= {"applied", "superseded", "unchanged"}
    assert site.history()[0]["commit"] == commits[-1]
    assert site.everywhere("main.test") == {"red"}


def git(site: Site, arguments: list[str], text: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(site.repo.directory), *arguments],
        input=text.encode(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()


# F19: a commit and its revert


def test_a_revert_is_the_inverse_change_and_no_more(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red", *(f"h{n}" for n in range(30))))
    site.commit(files(site, "blue", *(f"h{n}" for n in range(30))))
    [there] = site.history()
    site.wait(site.repo.revert())
    [back] = site.history()
    assert [each["name"] for each in there["changes"]] == ["main/b0"]
    [change], [inverse] = there["changes"], back["changes"]
    assert inverse["fields"] == {
        path: {"from": field["to"], "to": field["from"]} for path, field in change["fields"].items()
    }
    site.wait(site.repo.revert())
    assert site.history()[0]["changes"][0]["fields"] == change["fields"]
    assert site.everywhere("main.test") == {"blue"}


def test_the_revert_of_a_refused_commit_needs_no_transaction(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red"))
    running = site.running()
    bad = site.repo.commit({"bad.yaml": "clusters: 7\n"})
    assert site.daemon.outcome(bad) == "refused"
    site.wait(site.repo.revert())
    assert site.running() == running
    assert site.daemon.ask("status")["last_error"] is None
    # The same tree again is looked at again: the branch has moved.
    again = site.repo.revert()
    assert site.daemon.outcome(again) == "refused"
    assert site.daemon.ask("status")["last_error"]["commit"] == again
    assert site.running() == running
    site.wait(site.repo.revert())


def test_what_was_refused_is_refused_by_the_next_daemon_too(shared: Site) -> None:
    site = shared
    site.commit(files(site, "red"))
    running = site.running()
    bad = site.repo.commit({"bad.yaml": "clusters: 7\n"})
    assert site.daemon.outcome(bad) == "refused"
    site.daemon.leave(signal.SIGKILL)
    site.daemon.return_(wait=False)
    assert site.daemon.outcome(bad) == "refused"
    assert site.running() == running
    assert site.everywhere("main.test") == {"red"}
    told = [entry["commit"] for entry in site.history(10)]
    assert told.count(bad) == 1


# F25: the file system under the repository hangs


def test_a_repository_that_hangs_holds_up_nobody(site: Site) -> None:
    """A FIFO in the place of the ref: whoever opens it waits, as on a server that is gone."""
    site.start(files(site, "red"))
    before, pids = site.running(), site.worker_pids()
    ref = site.repo.directory / ".git" / "refs" / "heads" / "main"
    content = ref.read_text()
    ref.unlink()
    os.mkfifo(ref)
    try:
        reason = wait_held(site)
        assert "has not answered" in reason
        # Meanwhile traffic is served and questions are answered, those about git by a refusal.
        assert site.everywhere("main.test") == {"red"}
        assert (site.running(), site.worker_pids()) == (before, pids)
        assert site.daemon.run_cli("status", timeout_s=10).returncode == 0
        done = site.daemon.run_cli("wait", "--commit", "HEAD", "--timeout", "1s")
        assert done.returncode != 0
    finally:
        # Whoever waits to open it waits to read it now, and is let go when the ref is back: in
        # between it would be opened once more, by a look that nobody lets go.
        held = os.open(ref, os.O_RDWR | os.O_NONBLOCK)
        ref.unlink()
        ref.write_text(content)
        os.close(held)
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}
    assert site.daemon.ask("status")["source"]["state"] == "following"
