"""A file that a configuration names, on a file system that does not answer: nothing else stops."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import metrics, pki, ports
from tests.harness.hanging import Hanging, within_reach
from tests.reconciler.live import Shop, eventually
from tests.reconciler.test_renewal import certificates, put, serves

SILENT = "what it held before is served: the file does not answer: its file system hangs"


class Scene(Shop):
    """A shop with a certificate on a disk that may hang, and another one on one that does not."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, workers=1)
        self.mount, self.healthy = directory / "mount", directory / "healthy"
        self.disk = Hanging(directory, self.mount)
        self.admin = ports.address()
        self.named = {
            "far": put(self.mount, "far", pki.make("far.test")),
            "near": put(self.healthy, "near", pki.make("near.test")),
        }

    def files(self, backend: int = 0, **settings: Any) -> dict[str, Any]:
        found = super().files(backend, admin=self.admin, **settings)
        return {**found, **certificates(**self.named)}

    def silent(self) -> list[str]:
        return [each for each in self.daemon.status()["warnings"] if "not answer" in each]

    def quick(self, asked: Callable[[], object]) -> None:
        began = time.monotonic()
        asked()
        assert time.monotonic() - began < 3


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with within_reach(made, monkeypatch):
        yield made


def test_all_else_goes_on_while_a_file_hangs(scene: Scene) -> None:
    far = scene.named["far"]
    scene.disk.hang()
    wanted = [f"{path}: {SILENT}" for path in sorted(far.values())]
    # One may be found at one look, and one at the next.
    eventually(lambda: scene.silent() == wanted)
    assert metrics.scrape(scene.admin)["kakehi_files_silent"] == 2
    scene.quick(scene.daemon.status)
    scene.quick(lambda: scene.get(scene.admin, "/healthz") == 200)
    scene.quick(lambda: scene.daemon.run_cli("plan", check=True))
    scene.commit(1)
    assert scene.served_by() == 1
    # What is renewed elsewhere is taken over.
    renewed = pki.make("near.test")
    put(scene.healthy, "near", renewed)
    eventually(lambda: serves(scene, "near", renewed))
    # So is what was renewed there, once it answers.
    renewed = pki.make("far.test")
    put(scene.mount, "far", renewed)
    scene.disk.answer()
    eventually(lambda: serves(scene, "far", renewed))
    assert scene.silent() == []
    assert metrics.scrape(scene.admin)["kakehi_files_silent"] == 0
    lines = scene.daemon.log().splitlines()
    told = [line for line in lines if "files outside do not answer" in line]
    assert [sum(path in line for line in told) for path in far.values()] == [1, 1]


def test_a_commit_that_names_it_is_refused_until_it_answers(scene: Scene) -> None:
    scene.named["more"] = put(scene.mount, "more", pki.make("more.test"))
    scene.disk.hang()
    commit = scene.repo.commit(scene.files(1))
    scene.daemon.refusal(commit)
    done = scene.daemon.run_cli("wait", "--commit", commit, "--timeout", "1s")
    assert done.returncode == 6
    assert "more.crt: the file does not answer: its file system hangs" in done.stdout + done.stderr
    assert scene.served_by() == 0
    scene.disk.answer()
    eventually(lambda: scene.daemon.status()["commit"] == commit)
    assert scene.served_by() == 1


def test_a_daemon_that_starts_while_a_file_hangs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.disk.hang()
    eventually(scene.silent)
    os.kill(scene.pid, signal.SIGKILL)
    assert scene.daemon.process is not None
    scene.daemon.process.wait(10)
    monkeypatch.setenv("LD_PRELOAD", scene.disk.environment["LD_PRELOAD"])
    scene.daemon.start()
    monkeypatch.delenv("LD_PRELOAD")
    scene.commit(1)
    assert scene.served_by() == 1
    assert len(scene.silent()) == 2


def test_an_access_log_that_hangs_is_told(scene: Scene) -> None:
    log = scene.mount / "access.log"
    scene.commit(0, access_log=str(log))
    scene.disk.hang()

    def told() -> bool:
        return any("cannot open the access log" in each for each in scene.silent())

    eventually(told)
    scene.quick(scene.daemon.status)
    scene.disk.answer()
    eventually(lambda: scene.silent() == [])


def test_no_worker_opens_an_access_log_that_hangs(scene: Scene) -> None:
    """Each that did would be replaced: a commit must not cost what serves."""
    before = scene.daemon.json("status")["workers"][0]["pid"]
    scene.disk.hang()
    commit = scene.repo.commit(scene.files(1, access_log=str(scene.mount / "access.log")))
    scene.daemon.refusal(commit)
    done = scene.daemon.run_cli("wait", "--commit", commit, "--timeout", "1s")
    assert done.returncode == 6
    assert "access.log: the file does not answer" in done.stdout + done.stderr
    [worker] = scene.daemon.json("status")["workers"]
    assert (worker["pid"], worker["state"]) == (before, "running")
    scene.disk.answer()
    eventually(lambda: scene.daemon.status()["commit"] == commit)
    assert scene.daemon.json("status")["workers"][0]["pid"] == before


def test_files_of_ordered_certificates_hold_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was issued, and keys of accounts, lie in the state directory: a disk of its own."""
    shop, admin = Shop(tmp_path, workers=1), ports.address()
    disk = Hanging(tmp_path, shop.daemon.state_dir / "acme")
    files = shop.files(0, admin=admin)
    acme = {"directory": f"https://{ports.address()}/nobody"}
    files["tls.yaml"] = {
        "certificates": {"own": {"acme": acme, "hostnames": ["shop.test"]}},
        "listeners": {"secure": {"address": ports.address(), "protocol": "https"}},
    }
    files["shop.yaml"]["frontends"]["web"] |= {"listeners": ["public", "secure"]}
    shop.repo.commit(files)
    for name, value in disk.environment.items():
        monkeypatch.setenv(name, value)

    def failed() -> list[str]:
        return [each for each in shop.daemon.status()["warnings"] if "was issued" in each]

    try:
        shop.daemon.start()
        eventually(failed)
        disk.hang()
        shop.daemon.run_cli("retry", check=True)
        slowest, until = 0.0, time.monotonic() + 4
        while time.monotonic() < until:
            began = time.monotonic()
            shop.get(admin, "/healthz")
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 0.7
        shop.daemon.commit({**files, **shop.files(1, admin=admin), "shop.yaml": files["shop.yaml"]})
    finally:
        disk.answer()
        shop.stop()
