"""A start while the repository's file system does not answer: what was committed last is served."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.hanging import Hanging
from tests.reconciler.live import Shop, eventually, serves

HANGS = "the repository has not answered in 5 s: its file system hangs"


class Scene(Shop):
    """A shop whose repository may hang, for daemons that are started by `begin`."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(directory, workers=1)
        self._monkeypatch = monkeypatch
        self.disk = Hanging(directory, self.repo.directory)

    def begin(self, *, wait: bool) -> None:
        for name, value in self.disk.environment.items():
            self._monkeypatch.setenv(name, value)
        self.daemon.start(wait=wait)
        self._monkeypatch.delenv("LD_PRELOAD")

    def die(self, *, workers: bool) -> None:
        pids = self.daemon.worker_pids() if workers else []
        self.crash()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def is_held(self) -> bool:
        return self.daemon.answers() and self.daemon.status()["source"]["problem"] == HANGS


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path, monkeypatch)
    try:
        yield made
    finally:
        made.disk.answer()
        made.stop()


@pytest.mark.parametrize("workers", [True, False], ids=["rebooted", "daemon alone"])
def test_what_was_committed_last_is_served(scene: Scene, workers: bool) -> None:
    commit = scene.repo.commit(scene.files(0))
    scene.begin(wait=True)
    scene.die(workers=workers)
    scene.disk.hang()
    scene.begin(wait=False)
    eventually(scene.is_held, 20)
    eventually(lambda: serves(scene), 5)
    assert scene.served_by() == 0
    # The worker serves before it is taken over.
    eventually(lambda: states(scene) == ["running"], 5)
    assert scene.daemon.status()["commit"] == commit
    assert HANGS in scene.daemon.log()
    newer = scene.repo.commit(scene.files(1))
    scene.disk.answer()
    scene.daemon.wait(newer)
    assert scene.served_by() == 1
    assert scene.repo.git("rev-parse", "refs/kakehi/applied") == newer


def states(scene: Scene) -> list[str]:
    return [each["state"] for each in scene.daemon.status()["workers"]]


def test_a_first_start_waits_for_it(scene: Scene) -> None:
    commit = scene.repo.commit(scene.files(0))
    scene.disk.hang()
    scene.begin(wait=False)
    eventually(scene.is_held, 20)
    scene.disk.answer()
    scene.daemon.wait(commit)
    assert scene.served_by() == 0


def test_workers_that_know_more_are_taken_over_without_it(scene: Scene) -> None:
    """The state directory is lost as well: what they hold is read back from them."""
    scene.repo.commit(scene.files(0))
    scene.begin(wait=True)
    [worker] = scene.daemon.worker_pids()
    scene.die(workers=False)
    for path in scene.daemon.state_dir.glob("state.db*"):
        path.unlink()
    scene.disk.hang()
    scene.begin(wait=False)
    eventually(scene.is_held, 20)
    eventually(lambda: scene.daemon.worker_pids() == [worker], 5)
    assert scene.served_by() == 0
    newer = scene.repo.commit(scene.files(1))
    scene.disk.answer()
    scene.daemon.wait(newer)
    assert scene.daemon.worker_pids() == [worker]
    assert scene.served_by() == 1
