"""Files that do not answer: whoever asks is held up for a moment, and threads are few."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.stalling import HurriedError, answer_of, hurried, looked_at


class Disk:
    """Answers with the name of a file, but for what lies in a directory that hangs."""

    def __init__(self) -> None:
        self.mended = threading.Event()
        self.asked: list[str] = []

    def look(self, path: str) -> str:
        self.asked.append(path)
        if path.startswith("/hung"):
            assert self.mended.wait(30)
        return os.path.basename(path)  # nothing is there

    def answers(self, path: str) -> bool:
        return answer_of(path, self.look, None) is not None


@contextmanager
def some_time(least: float, most: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began <= most


def threads() -> int:
    return sum(each.name == "looks at files" for each in threading.enumerate())


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.mended.set()
    deadline = time.monotonic() + 10
    while threads() > 2:
        assert time.monotonic() < deadline, "threads that answered are not kept"
        time.sleep(0.01)


@pytest.mark.timed
def test_what_hangs_holds_nothing_else_up(disk: Disk) -> None:
    paths = ["/a/1", "/hung/1", "/hung/2", "/b/1", "/a/2"]
    with some_time(0.9, 2.5):
        found = looked_at(paths, disk.look)
    assert found == {"/a/1": "1", "/b/1": "1", "/a/2": "2"}
    # From here on nobody waits for it, and nobody else asks it.
    with some_time(0, 0.5):
        assert looked_at([*paths, "/hung/3"], disk.look) == found
    assert [path for path in disk.asked if path.startswith("/hung")] == ["/hung/1"]
    disk.mended.set()
    deadline = time.monotonic() + 10
    while not disk.answers("/hung/2"):
        assert time.monotonic() < deadline
    assert len(looked_at(paths, disk.look)) == len(paths)


@pytest.mark.timed
def test_very_many_that_hang_take_few_threads(disk: Disk) -> None:
    paths = [f"/hung{number}/1" for number in range(500)]
    with some_time(0.9, 10):
        assert looked_at(paths, disk.look) == {}
    assert threads() <= 34
    with some_time(0, 2.5):
        assert looked_at(paths, disk.look) == {}


@pytest.mark.timed
def test_the_loop_waits_for_a_moment(disk: Disk) -> None:
    with hurried():
        assert disk.answers("/a/1")
        for _ in range(2):
            with some_time(0, 0.3), pytest.raises(HurriedError):
                disk.answers("/hung/1")
    # Elsewhere it gets its time, and has had it then.
    with some_time(0.5, 2.5):
        assert not disk.answers("/hung/1")
    with hurried(), some_time(0, 0.3):
        assert not disk.answers("/hung/1")


def test_a_look_that_fails_is_no_answer(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    def look(path: str) -> str:
        if path == "/a/2":
            raise RuntimeError("no such look")
        return disk.look(path)

    assert looked_at(["/a/1", "/a/2", "/a/3"], look) == {"/a/1": "1", "/a/3": "3"}
    assert "no such look" in capsys.readouterr().err


def test_a_process_that_is_forked_off_has_threads_of_its_own(disk: Disk) -> None:
    assert disk.answers("/a/1")
    child = os.fork()
    if child == 0:
        os._exit(0 if disk.answers("/a/2") else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("imported", "asked", "said"),
    [
        ("from reconciler.stalling import answer_of", "answer_of('/a', str, 'nothing')", "nothing"),
        ("from reconciler.source.probing import answers", "answers(print, 1)", "False"),
        (
            "from reconciler.cli.trees.answering import answered",
            "answered(Path('/a'), lambda: 'read all the same')",
            "read all the same",
        ),
        (
            (
                "from reconciler.storage.file.checkpoints import Checkpoints\n"
                "class Full: uncopied_bytes = 2**30"
            ),
            "[(each.begin_if_due(None, Full()), each.finish()) for each in [Checkpoints()]]",
            "[(None, None)]",
        ),
    ],
)
def test_a_system_without_threads_is_no_exception(imported: str, asked: str, said: str) -> None:
    """It would end whoever asks."""
    code = (
        "import resource\n"
        "from pathlib import Path\n"
        f"{imported}\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "most = pages * resource.getpagesize() + 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        f"print({asked})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == (f"{said}\n", "")
