"""What lies at a path, asked so that no answer is an exception.

`Path.exists` and its kin raise when a directory on the way may not be searched, when a name is too
long, or when the disk fails. In a task that runs for weeks such a look must not be the end of it:
what cannot be looked at is not there. Called by every room that looks before it opens.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def found_at(path: str | Path) -> os.stat_result | None:
    """What `stat` says of a path, through links; None when it cannot be looked at."""
    try:
        # Asked at each step of a commit: a `Path` would take longer to make than to ask.
        return os.stat(path)  # noqa: PTH116  # as said above
    except (OSError, ValueError):
        return None


def leads_to_itself(path: str | Path) -> bool:
    """Whether symbolic links on the way to a path lead in a circle."""
    try:
        os.stat(path)  # noqa: PTH116  # as said above
    except (OSError, ValueError) as error:
        return getattr(error, "errno", None) == errno.ELOOP
    return False


def denied_at(path: str | Path) -> Path | None:
    """A directory on the way to a path that may not be searched, or the path, not to be read."""
    place = Path(path).absolute()
    for each in (*reversed(place.parents), place):
        if is_directory(each):
            # What is in it can be looked at by whoever may search it, itself included.
            if not is_there(f"{each}/."):
                return each
        elif is_there(each) and not os.access(each, os.R_OK):
            return each
    return None


def is_there(path: str | Path) -> bool:
    """Whether anything is there."""
    return found_at(path) is not None


def is_directory(path: str | Path) -> bool:
    """Whether a directory is there."""
    found = found_at(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_empty(path: str | Path) -> bool:
    """Whether there is nothing, or a file without a byte."""
    found = found_at(path)
    return found is None or found.st_size == 0


def is_file(path: str | Path) -> bool:
    """Whether a regular file is there."""
    found = found_at(path)
    return found is not None and stat.S_ISREG(found.st_mode)
