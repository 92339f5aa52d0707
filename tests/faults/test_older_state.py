"""The state comes back from a backup, nobody serves, and the newest commit is of no use.

What the repository names as applied after what the backup has is served: a backup is never worse
than nothing. Whose it is says the id that the backup has.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

INVALID = {"bad.yaml": {"frontends": {"x": {"cluster": "nobody"}}}}


def config(address: str, text: str, page: Path) -> dict[str, Any]:
    paged = {"listeners": ["web"], "path": {"prefix": "/page"}, "respond": {"file": str(page)}}
    frontends = {"web": {"listeners": ["web"], "respond": {"body": text}}, "paged": paged}
    listeners = {"web": {"address": address}}
    return {
        "a.yaml": {
            "listeners": listeners,
            "frontends": frontends,
            "settings": {"access_log": "off"},
        }
    }


def invalid(repo: Repo) -> None:
    repo.commit(INVALID)


def empty(repo: Repo) -> None:
    repo.commit({"a.yaml": None})


def amended(repo: Repo) -> None:
    """What was applied is on no branch any more."""
    repo.write(INVALID)
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--amend", "--message", "broken")


def served(address: str, path: str = "/") -> bytes:
    with rawclient.Connection(address) as connection:
        return connection.get("web.test", path).body


def serves(address: str, expected: bytes) -> Callable[[], bool]:
    def is_so() -> bool:
        try:
            return served(address) == expected
        except OSError:
            return False

    return is_so


CASES = [("older", invalid), ("older", empty), ("older", amended), ("lost", empty)]


@pytest.mark.parametrize(
    ("state", "head"), CASES, ids=[f"{state}, {head.__name__}" for state, head in CASES]
)
def test_what_was_applied_later_is_served(
    state: str, head: Callable[[Repo], None], tmp_path: Path
) -> None:
    repo, address, page = Repo(tmp_path / "repository"), ports.address(), tmp_path / "page"
    page.write_text("first")
    repo.commit(config(address, "one", page))
    with Kakehi(repo, workers=1) as daemon:
        daemon.interrupt()
        before = shutil.copytree(daemon.state_dir, tmp_path / "before")
        daemon.start()
        applied = repo.commit(config(address, "two", page))
        daemon.wait(applied)
        daemon.interrupt()
        # Taken over by what runs, before anything else: no reason to forget what came later.
        page.write_text("second")
        head(repo)
        shutil.rmtree(daemon.state_dir)
        if state == "older":
            shutil.copytree(before, daemon.state_dir)
        daemon.start(wait=False)
        processes.wait_until(serves(address, b"two"), "what was applied last is served")
        assert served(address, "/page") == b"second"
        is_refused = f"refused commit={repo.head()[:12]}"
        assert is_refused in daemon.log() or "there is no configuration" in daemon.log()
        # What serves is told behind the swap, and the newest commit is looked at again behind that.
        processes.wait_until(
            lambda: (daemon.status()["last_error"] or {}).get("commit") == repo.head(),
            "it is told that the newest commit is refused",
        )
        assert daemon.status()["commit"] == applied
        processes.wait_until(
            lambda: repo.git("rev-parse", "refs/kakehi/applied") == applied, "the ref is moved"
        )


def test_a_branch_that_was_taken_back_is_not_gone_on_from(tmp_path: Path) -> None:
    """Its owner wants the commit that the backup has: what came after it is nobody's wish."""
    repo, address, page = Repo(tmp_path / "repository"), ports.address(), tmp_path / "page"
    page.write_text("first")
    wanted = repo.commit(config(address, "one", page))
    with Kakehi(repo, workers=1) as daemon:
        daemon.interrupt()
        before = shutil.copytree(daemon.state_dir, tmp_path / "before")
        daemon.start()
        daemon.wait(repo.commit(config(address, "two", page)))
        daemon.interrupt()
        shutil.rmtree(daemon.state_dir)
        shutil.copytree(before, daemon.state_dir)
        repo.git("reset", "--quiet", "--hard", wanted)
        daemon.start()
        processes.wait_until(
            lambda: repo.git("rev-parse", "refs/kakehi/applied") == wanted, "the ref is moved back"
        )
        invalid(repo)
        processes.wait_until(
            lambda: (daemon.status()["last_error"] or {}).get("commit") == repo.head(),
            "it is refused",
        )
        assert daemon.status()["commit"] == wanted
        assert served(address) == b"one"
