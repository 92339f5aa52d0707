"""A state directory that does not answer: what runs serves, who asks is told, commits wait."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import control, ports
from tests.harness.hanging import SYNCS, Hanging
from tests.reconciler.live import Shop, eventually, serves

SILENT = "it does not answer: its file system hangs"


class Scene(Shop):
    """A shop whose daemon has its state on a disk that may hang."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, workers=1)
        self.admin = ports.address()
        self.disk = Hanging(directory, self.daemon.state_dir)

    def files(self, backend: int = 0, **settings: Any) -> dict[str, Any]:
        return super().files(backend, admin=self.admin, **settings)

    def ask(self, request: str, *, within_s: float = 4, **fields: Any) -> Any:
        """An answer that comes in time, or none."""
        return control.ask(self.daemon.runtime_dir, request, within_s, **fields)

    def hang(self) -> None:
        # What is under way is caught by it, whoever looks before: it is at rest for a moment.
        time.sleep(0.3)
        self.disk.hang()

    def is_told(self) -> bool:
        return any(SILENT in each for each in self.ask("status")["warnings"])

    def is_told_no_more(self) -> bool:
        return not self.is_told()

    def quick(self, asked: Callable[[], object], within_s: float = 3) -> None:
        began = time.monotonic()
        asked()
        assert time.monotonic() - began < within_s


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    for name, value in made.disk.environment.items():
        monkeypatch.setenv(name, value)
    try:
        yield made
    finally:
        made.disk.answer()
        made.stop()


@pytest.mark.parametrize("at", ["at rest", "a commit"])
def test_what_runs_serves_and_a_commit_waits_for_it(scene: Scene, at: str) -> None:
    scene.start()
    generation = scene.daemon.generation
    scene.hang()
    if at == "at rest":
        eventually(scene.is_told, 10)
    waiting = scene.repo.commit(scene.files(1))
    told = scene.ask("wait", commit=waiting, timeout_s=3.0)
    assert told["outcome"] == "timeout"
    assert scene.is_told()
    assert scene.served_by() == 0
    for request in ("status", "history", "plan", "explain", "show"):
        fields = {"explain": {"url": "http://shop.test/"}, "history": {"limit": 1}}.get(request, {})

        def asked(request: str = request, fields: dict[str, Any] = fields) -> None:
            try:
                scene.ask(request, **fields)
            except AssertionError as error:
                # The answer is an error, and comes.
                assert SILENT in str(error), request

        scene.quick(asked)

    def scraped() -> None:
        with urllib.request.urlopen(f"http://{scene.admin}/metrics", timeout=3) as found:
            assert b"kakehi_generation" in found.read()

    scene.quick(scraped)
    with pytest.raises(AssertionError, match=SILENT):
        scene.ask("drain", backend="shop/one", owner="me", ttl_s=60.0, wait=False)

    scene.disk.answer()
    applied = scene.ask("wait", within_s=25, commit=waiting, timeout_s=20.0)
    assert applied["outcome"] == "applied"
    eventually(scene.is_told_no_more, 10)
    assert scene.daemon.generation == generation + 1
    assert scene.served_by() == 1
    assert "internal error" not in scene.daemon.log()
    # It is recorded, for whoever comes next.
    scene.crash()
    scene.daemon.start()
    assert scene.daemon.generation == generation + 1


@pytest.mark.parametrize("workers", [True, False], ids=["all killed", "daemon alone"])
def test_a_start_serves_without_it(scene: Scene, workers: bool) -> None:
    scene.start()
    pids = scene.daemon.worker_pids()
    scene.crash()
    for pid in pids if workers else ():
        os.kill(pid, signal.SIGKILL)
    scene.hang()
    scene.daemon.start(wait=False)
    eventually(lambda: scene.daemon.answers() and scene.is_told(), 20)
    eventually(lambda: serves(scene), 20)
    scene.disk.answer()
    eventually(scene.is_told_no_more, 20)
    scene.commit(1)
    assert scene.served_by() == 1
    assert "internal error" not in scene.daemon.log()


@pytest.fixture
def still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A disk that reads and takes what is written, and has nothing of it synced for a while."""
    made = Scene(tmp_path)
    made.disk = Hanging(tmp_path, made.daemon.state_dir, SYNCS)
    for name, value in made.disk.environment.items():
        monkeypatch.setenv(name, value)
    try:
        made.start()
        yield made
    finally:
        made.disk.answer()
        made.stop()


def test_the_loop_goes_on_while_a_commit_is_written(still: Scene) -> None:
    scene, generation = still, still.daemon.generation
    scene.disk.hang()
    waiting = scene.repo.commit(scene.files(1))
    began = time.monotonic()
    while time.monotonic() - began < 2:
        assert scene.ask("status", within_s=1)["generation"] == generation
    assert scene.is_told()
    assert scene.served_by() == 0
    told = scene.ask("wait", commit=waiting, timeout_s=0.5)
    assert told["outcome"] == "timeout"
    # What is said meanwhile holds, and is told as not kept yet.
    drained = scene.ask("drain", backend="shop/one", owner="me", ttl_s=60.0, wait=False)
    assert SILENT in drained["not_kept"]
    assert scene.ask("undrain", backend="shop/one")["backend"] == "shop/one"
    scene.disk.answer()
    applied = scene.ask("wait", within_s=25, commit=waiting, timeout_s=20.0)
    assert applied["outcome"] == "applied"
    assert scene.served_by() == 1
    eventually(scene.is_told_no_more, 10)
    assert scene.daemon.generation == generation + 1
    assert "internal error" not in scene.daemon.log()
    outcomes = [each["outcome"] for each in scene.ask("history", limit=5)["entries"]]
    assert outcomes == ["applied", "applied"]


def test_the_loop_goes_on_while_a_drain_is_written(still: Scene) -> None:
    scene = still
    scene.disk.hang()
    began = time.monotonic()
    drained = scene.ask("drain", backend="shop/one", owner="me", ttl_s=60.0, wait=False)
    assert SILENT in drained["not_kept"]
    assert 0.5 < time.monotonic() - began < 3
    scene.quick(lambda: scene.ask("status", within_s=1))
    scene.disk.answer()
    eventually(scene.is_told_no_more, 10)
    # It is written by now.
    scene.crash()
    scene.daemon.start()
    assert [each["backend"] for each in scene.ask("status")["drains"]] == ["shop/one"]


def test_a_daemon_ends_while_a_commit_is_written(still: Scene) -> None:
    still.disk.hang()
    still.repo.commit(still.files(1))
    eventually(still.is_told, 10)
    began = time.monotonic()
    still.stop()
    assert time.monotonic() - began < 8


def test_the_loop_waits_for_no_look(scene: Scene) -> None:
    scene.start()
    scene.hang()
    waiting = scene.repo.commit(scene.files(1))
    slowest, until = 0.0, time.monotonic() + 5
    while time.monotonic() < until:
        began = time.monotonic()
        scene.get(scene.admin, "/healthz")
        slowest = max(slowest, time.monotonic() - began)
    # The machine may be busy; a look is waited for a second.
    assert slowest < 0.7
    scene.disk.answer()
    applied = scene.ask("wait", within_s=25, commit=waiting, timeout_s=20.0)
    assert applied["outcome"] == "applied"
