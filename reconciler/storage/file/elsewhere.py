"""A directory elsewhere, for a copy of the state while its own directory cannot be written.

Called by `reconciler.storage.opened`. The temporary directory is on the same disk as often as not,
and fails with it; memory does not.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from reconciler.durable import write_durably

MEMORY = Path("/dev/shm")  # noqa: S108  # a directory of our own is made in it
# What is written behind the copy wants room as well.
_ROOM_BYTES = 64 * 1024


def make_elsewhere(files: Iterable[Path]) -> tempfile.TemporaryDirectory[str]:
    """Make a directory that can be written and has room for a copy of these. Raises `OSError`."""
    failures: list[OSError] = []
    for parent in _parents():
        try:
            return _made_in(parent, _ROOM_BYTES + sum(map(_size, files)))
        except OSError as error:
            failures.append(error)
    raise failures[0]


def _parents() -> Iterator[Path]:
    # It is asked for a directory that can be written to, and may find none.
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())
    yield MEMORY


def _made_in(parent: Path, room_bytes: int) -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="kakehi-state-", dir=parent)
    probe = Path(made.name) / "probe"
    try:
        write_durably(probe, bytes(room_bytes))
        probe.unlink()
    except OSError:
        with contextlib.suppress(OSError):
            made.cleanup()
        raise
    return made


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
