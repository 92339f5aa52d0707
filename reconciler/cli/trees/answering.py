"""Gives up files that do not answer: a command would wait for a file system that hangs for ever.

No call of the system has a time limit, so a thread reads and the command waits for it, for as long
as that one gets on, from file to file or by computing: what is only slow, or large, is read to the
end. Told is the file that was asked last (`asked`). libgit2 keeps the whole interpreter waiting
with it, so that a repository is asked without it first (`ask_repository`). Called by `validate` and
`plan`.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from reconciler.cli.exits import TIMEOUT, CommandError
from reconciler.presence import is_directory, is_file

Result = TypeVar("Result")

PATIENCE_S = 5.0
"""One file may keep a command for so long."""

_LOOK_S = 0.25
_LOOKS = int(PATIENCE_S / _LOOK_S)
# Of a second: who gets less of the processor is waiting.
_COMPUTING = 0.01


class _At:
    """What the thread that reads is at, for who waits for it."""

    path: Path | None = None
    number = 0
    """How many files it has asked."""


def asked(path: Path | None) -> None:
    """Say which file is asked from here on; None: who is waited for is no file."""
    _At.path = path
    _At.number += 1


def answered(place: Path, read: Callable[[], Result]) -> Result:
    """Return what `read` returns, which begins at `place`, or raise what it raises.

    Raises `CommandError` when a file has not answered for `PATIENCE_S`.
    """
    asked(place)
    returned: list[Result] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(read())
        except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
            raised.append(error)

    # The process does not wait for it at its end.
    reading = threading.Thread(target=run, name="reads files", daemon=True)
    try:
        reading.start()
    except RuntimeError:
        # The system has none to give: then a file is waited for.
        return read()
    _wait(reading)
    if raised:
        raise raised[0]
    return returned[0]


def ask_repository(directory: Path) -> None:
    """Read what a repository is found by, and what is read of it first."""
    place = directory.absolute()
    for folder in (place, *place.parents):
        way = folder / ".git"
        asked(way)
        if is_file(way):
            _read(way)
            return
        for git in (way, folder):
            if _read(git / "HEAD"):
                for name in ("index", "objects", "refs"):
                    _read(git / name)
                return


def _read(path: Path) -> bool:
    """Tell whether there was something to be read."""
    asked(path)
    with contextlib.suppress(OSError):
        if is_directory(path):
            return next(path.iterdir(), None) is not None
        # Who opens a pipe waits as well, and libgit2 tells what is no file.
        if is_file(path):
            with path.open("rb") as opened:
                return bool(opened.read(1))
    return False


def _wait(reading: threading.Thread) -> None:
    """Wait for a thread, and raise when one file keeps it while this one runs."""
    spent, number, looks = 0.0, 0, 0
    while True:
        # A machine that was asleep, or a command that was stopped, is not counted.
        reading.join(_LOOK_S)
        now = _spent_by(reading)
        if now is None:
            return
        is_kept = number == _At.number and now - spent < _COMPUTING * _LOOK_S
        looks = looks + 1 if is_kept and _At.path is not None else 0
        spent, number = now, _At.number
        if looks >= _LOOKS:
            raise CommandError(
                f"{_At.path} has not answered in {PATIENCE_S:g} s: its file system hangs",
                "look whether its mount is alive: findmnt --target",
                TIMEOUT,
            )


def _spent_by(reading: threading.Thread) -> float | None:
    """Return the seconds of processor time of a thread; None when it has ended."""
    if reading.ident is None or not reading.is_alive():
        return None
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(reading.ident))
    except OSError:
        return None
