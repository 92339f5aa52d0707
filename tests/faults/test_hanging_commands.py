"""`validate` and `plan` on files that do not answer: they end, and say which ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import pki, ports
from tests.harness.hanging import Hanging
from tests.harness.repo import Repo
from tests.reconciler.cli.program import KAKEHI
from tests.reconciler.test_renewal import put

PATIENCE_S = 5
ENDS_S = 20


class Scene:
    """A repository that may hang, with a certificate in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repo = Repo(directory / "shop")
        names = put(self.repo.directory / "certs", "www", pki.make("www.test"))
        self.repo.commit(
            {
                "kakehi.yaml": {
                    "listeners": {"web": {"address": ports.address()}},
                    "clusters": {"web": {"backends": {"one": {"address": ports.address()}}}},
                    "frontends": {"web": {"listeners": ["web"], "cluster": "web"}},
                    "certificates": {
                        "www": {
                            key: str(Path(path).relative_to(self.repo.directory))
                            for key, path in names.items()
                        }
                    },
                }
            }
        )
        self.disk = Hanging(directory, self.repo.directory)

    def begin(self, *line: str, under: Path | None = None) -> subprocess.Popen[str]:
        environment = {**os.environ, **self.disk.environment}
        if under is not None:
            environment["HANGING_UNDER"] = f"{under}/"
        return subprocess.Popen(
            [KAKEHI, *line],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    try:
        yield made
    finally:
        made.disk.answer()


def ended(begun: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, said = begun.communicate(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        begun.kill()
        out, said = begun.communicate()
        raise AssertionError(f"it waits for ever: {out}{said}") from None
    return begun.returncode, out, said


def test_a_repository_that_hangs_ends_them(scene: Scene) -> None:
    place = str(scene.repo.directory)
    scene.disk.hang()
    begun = {
        line: scene.begin(*line)
        for line in (
            ("validate", place),
            ("validate", place, "--ref", "HEAD"),
            ("plan", place, "--from", "HEAD"),
            ("plan", place, "--from", "HEAD", "--ref", "HEAD"),
        )
    }
    for line, each in begun.items():
        code, out, said = ended(each)
        assert (code, out) == (8, ""), said
        assert said.startswith(f"kakehi {line[0]}: {place}/.git")
        assert "has not answered in 5 s: its file system hangs" in said


def test_the_file_that_hangs_is_named(scene: Scene) -> None:
    """Another file system, mounted below: the rest of the repository answers."""
    place = scene.repo.directory
    scene.disk.hang()
    begun = scene.begin("validate", str(place), "--json", under=place / "certs")
    code, out, said = ended(begun)
    assert code == 8, said
    error = json.loads(out)["error"]
    assert error["exit_code"] == 8
    assert error["message"].startswith(f"{place}/certs")
    assert error["message"].endswith("has not answered in 5 s: its file system hangs")


def test_one_that_answers_again_is_waited_for(scene: Scene) -> None:
    scene.disk.hang()
    begun = scene.begin("validate", str(scene.repo.directory))
    time.sleep(2)
    scene.disk.answer()
    code, out, said = ended(begun)
    assert (code, out[:5]) == (0, "Valid"), said


def test_the_time_in_which_a_command_is_stopped_is_not_counted(scene: Scene) -> None:
    scene.disk.hang()
    begun = scene.begin("validate", str(scene.repo.directory))
    time.sleep(2)
    begun.send_signal(signal.SIGSTOP)
    time.sleep(PATIENCE_S + 1)
    begun.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    assert begun.poll() is None
    scene.disk.answer()
    assert ended(begun)[0] == 0
