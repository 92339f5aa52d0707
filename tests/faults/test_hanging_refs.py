"""A disk that stands still below the refs that the daemon moves: commits go on, and are told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import control
from tests.harness.hanging import Hanging, within_reach
from tests.reconciler.live import Shop, eventually

APPLIED = "refs/kakehi/applied"
# The loop is free: what it answers comes at once, on a machine that is busy.
AT_ONCE_S = 2.0


class Scene(Shop):
    """A shop whose daemon moves its refs on a disk that may hang."""

    def __init__(self, directory: Path, under: str = "refs/kakehi") -> None:
        super().__init__(directory, workers=1)
        self.disk = Hanging(directory, self.repo.directory / ".git" / under)

    def ask(self, request: str, *, within_s: float = AT_ONCE_S, **fields: Any) -> Any:
        return control.ask(self.daemon.runtime_dir, request, within_s, **fields)

    def told(self) -> list[str]:
        return [each for each in self.ask("status")["warnings"] if APPLIED in each]

    def applied(self) -> str:
        return self.repo.git("rev-parse", APPLIED)


@pytest.fixture
def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    made = Scene(tmp_path, getattr(request, "param", "refs/kakehi"))
    with within_reach(made, monkeypatch):
        yield made


def test_commits_go_on_and_the_ref_follows_when_it_can(scene: Scene) -> None:
    before = scene.applied()
    scene.disk.hang()
    for backend in (1, 0, 1):
        commit = scene.repo.commit(scene.files(backend))
        began = time.monotonic()
        told = scene.ask("wait", within_s=5, commit=commit, timeout_s=4.0)
        assert (told["outcome"], told["applied"]) == ("applied", commit)
        assert time.monotonic() - began < 3
        assert scene.served_by() == backend
        assert scene.applied() == before
        [warning] = scene.told()
        assert warning == (
            f"cannot move {APPLIED}: the repository has not answered in 1 s: its file system hangs"
        )
    scene.disk.answer()
    eventually(lambda: scene.applied() == commit)
    eventually(lambda: scene.told() == [])
    assert scene.daemon.log().count("the applied commit is not protected from gc") == 1
    assert "internal error" not in scene.daemon.log()


def test_a_commit_that_changes_nothing_is_told_as_well(scene: Scene) -> None:
    scene.disk.hang()
    commit = scene.repo.commit({"README.md": "The shop.\n"})
    assert scene.ask("wait", within_s=5, commit=commit, timeout_s=4.0)["outcome"] == "applied"
    assert scene.told()
    scene.disk.answer()
    eventually(lambda: scene.applied() == commit)


def test_nobody_is_told_before_the_ref_is_moved_if_that_takes_a_moment(scene: Scene) -> None:
    scene.disk.hang()
    commit = scene.repo.commit(scene.files(1))
    eventually(lambda: scene.served_by() == 1)
    told = scene.ask("wait", within_s=5, commit=commit, timeout_s=0.2)
    assert told["outcome"] == "timeout"
    assert scene.told() == []
    scene.disk.answer()
    assert scene.ask("wait", within_s=5, commit=commit, timeout_s=4.0)["outcome"] == "applied"
    assert scene.applied() == commit


def test_a_daemon_ends_while_it_hangs(scene: Scene) -> None:
    scene.disk.hang()
    scene.repo.commit(scene.files(1))
    eventually(lambda: scene.served_by() == 1)
    began = time.monotonic()
    scene.stop()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("scene", [".", "objects"], indirect=True)
@pytest.mark.parametrize("request_", ["status", "plan", "explain", "history", "wait"])
def test_a_question_is_answered_however_lately_the_repository_hangs(
    scene: Scene, request_: str
) -> None:
    """No look has found it so yet."""
    commit = scene.repo.head()
    fields = {
        "explain": {"url": "http://shop.test/"},
        "history": {"limit": 1},
        "wait": {"commit": commit, "timeout_s": 1.0},
    }.get(request_, {})
    # What is under way is caught by it: it is at rest for a moment.
    time.sleep(0.7)
    scene.disk.hang()
    with contextlib.suppress(AssertionError):
        # The answer may be an error, and comes.
        scene.ask(request_, within_s=4, **fields)
    assert scene.ask("status")["commit"] == commit
    assert scene.served_by() == 0
