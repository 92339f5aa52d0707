"""Reads the files that entities name by path, within bounds.

`Reader` is how every part asks for them; called by `reconciler.loop`, for files outside of the
repository, and by whoever brings a reader of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from reconciler.errors import UnreadableError

MATERIAL_BYTES_MAX = 1024 * 1024
"""A bundle of all authorities of the world has 230 KiB."""

Reader = Callable[[str], bytes]
"""Returns the content of a file by its path as written. Raises `UnreadableError`."""


def no_files(_path: str) -> bytes:
    """The reader of whoever has no files. Raises `UnreadableError`."""
    raise UnreadableError("the file is not there")


def read_external(path: str) -> bytes:
    """The content of a file outside of the repository. Raises `UnreadableError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    except ValueError:
        raise UnreadableError("no file can have such a path") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            # A pipe has no content that could be read twice, and a directory has none at all.
            what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise UnreadableError(f"it is {what}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MATERIAL_BYTES_MAX + 1)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    finally:
        os.close(descriptor)
    return bounded(content)


def bounded(content: bytes) -> bytes:
    """The content itself. Raises `UnreadableError` when it is too large to be meant."""
    if len(content) > MATERIAL_BYTES_MAX:
        raise UnreadableError(f"the file has more than {MATERIAL_BYTES_MAX >> 10} KiB")
    return content
