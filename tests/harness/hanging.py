"""A file system that does not answer: calls below a directory wait, by `hanging.c`, preloaded.

Used by the tests of `tests.faults` that are named for what hangs. Needs the C compiler that the
engine's build links with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.harness.killer import compile_library

SYNCS = "fsync,fdatasync"


class Hanging:
    """Holds up whoever is started in `environment`, from `hang` on until `answer`.

    `calls`: these alone, as on a disk that reads from memory and writes nothing.
    """

    def __init__(self, directory: Path, under: Path, calls: str = "") -> None:
        library = compile_library(Path(__file__).with_name("hanging.c"), directory)
        self._hanging = directory / "hanging"
        self.environment = {
            "LD_PRELOAD": str(library),
            "HANGING_UNDER": f"{under}/",
            "HANGING_WHILE": str(self._hanging),
            **({"HANGING_CALLS": calls} if calls else {}),
        }

    def hang(self) -> None:
        """From here on nothing below answers."""
        self._hanging.touch()

    def answer(self) -> None:
        """From here on all of it does, also to who waits."""
        self._hanging.unlink(missing_ok=True)


class Scene(Protocol):
    """Somebody whose disk may hang."""

    disk: Hanging

    def start(self) -> None:
        """Start the daemon, with the variables that the test has."""

    def stop(self) -> None:
        """End it."""


@contextlib.contextmanager
def within_reach(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, a scene's daemon runs, and it alone has the disk that may hang."""
    for name, value in scene.disk.environment.items():
        monkeypatch.setenv(name, value)
    try:
        scene.start()
        monkeypatch.delenv("LD_PRELOAD")
        yield
    finally:
        scene.disk.answer()
        scene.stop()
