"""Reads files of the state directory, whose paths are told in messages, and waits for nobody.

Who may write there may have put something else in their place: a pipe that nobody writes to would
hold its reader up for ever, and a device has no end. Called by both planes.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

BYTES_MAX = 4 * 1024 * 1024
"""Four times what any file may have that is kept there."""


def read_regular(path: Path) -> bytes:
    """The content of a regular file, through links. Raises `OSError` for whatever else is there."""
    content = beginning_of(path, BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def beginning_of(path: str | Path, most: int) -> bytes:
    """So many bytes of a regular file at most. Raises `OSError`, and `ValueError` for no path."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            # A pipe has no content that could be read twice.
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        # What cannot be made a file of, such as a directory, is not closed by that.
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content: bytes | None = file.read(most)
    finally:
        os.close(descriptor)
    if content is None:
        # There are such files below /proc, and on file systems of FUSE.
        raise BlockingIOError(errno.EAGAIN, "it has nothing to be read now", str(path))
    return content


def identity(descriptor: int) -> str:
    """Return what tells an open file apart from all others of the host. Raises `OSError`."""
    found = os.fstat(descriptor)
    return f"{found.st_dev}:{found.st_ino}"
