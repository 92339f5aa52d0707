"""A directory elsewhere, for a copy of the state while its own directory cannot be written.

Called by `reconciler.storage.opened`. The temporary directory is on the same disk as often as not,
and fails with it; memory does not. What a daemon leaves there that is killed, keys of certificates
too, the next one removes: nobody has its lock any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from reconciler.durable import write_durably

MEMORY = Path("/dev/shm")  # noqa: S108  # a directory of our own is made in it
_PREFIX = "kakehi-state-"
# What is written behind the copy wants room as well.
_ROOM_BYTES = 64 * 1024


class Elsewhere:
    """One directory, locked, until `remove`."""

    def __init__(self, parent: Path, room_bytes: int) -> None:
        """Raises `OSError` when there is less room."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self._lock = -1
        try:
            self._lock = _locked(self.path)
            probe = self.path / "probe"
            write_durably(probe, bytes(room_bytes))
            probe.unlink()
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """With all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def make_elsewhere(files: Iterable[Path]) -> Elsewhere:
    """Make a directory that can be written and has room for a copy of these. Raises `OSError`."""
    room_bytes = _ROOM_BYTES + sum(map(_size, files))
    failures: list[OSError] = []
    for parent in _parents():
        try:
            return Elsewhere(parent, room_bytes)
        except OSError as error:
            failures.append(error)
    raise failures[0]


@contextlib.contextmanager
def made_elsewhere(files: Iterable[Path]) -> Iterator[Elsewhere]:
    """The same; what fails within leaves none."""
    made = make_elsewhere(files)
    try:
        yield made
    except BaseException:
        made.remove()
        raise


def remove_abandoned() -> None:
    """Remove those of daemons of this user that are gone."""
    for parent in _parents():
        with contextlib.suppress(OSError):
            for path in parent.glob(f"{_PREFIX}*"):
                with contextlib.suppress(OSError):
                    if path.lstat().st_uid == os.geteuid():
                        lock = _locked(path)
                        shutil.rmtree(path, ignore_errors=True)
                        os.close(lock)


def _locked(path: Path) -> int:
    """Raises `OSError` when somebody has the lock, or it is no directory."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened


def _parents() -> Iterator[Path]:
    # It is asked for a directory that can be written to, and may find none.
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())
    yield MEMORY


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
