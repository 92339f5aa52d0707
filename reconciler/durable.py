"""Writes files that survive a power cut: synced, and replaced by rename, with their directories.

Called by every part that keeps something in the state directory. A new name is durable when its
directory is synced: a file, a directory, and what was renamed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reconciler.presence import is_directory, is_there


def write_durably(path: Path, content: bytes) -> None:
    """Creates a file in the place of what is there, and syncs it."""
    # A pipe there would be waited for, and a link would lead elsewhere.
    if is_directory(path) and not path.is_symlink():
        set_aside(path)
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    except OSError:
        # Half of it is of no use, and takes the room that a full disk does not have.
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def replace_durably(path: Path, content: bytes) -> None:
    """Replaces a file by rename: a reader finds the old or the new one, never a torn one."""
    temporary = path.with_suffix(path.suffix + ".new")
    write_durably(temporary, content)
    if is_directory(path):
        set_aside(path)
    rename_durably(temporary, path)


def set_aside(path: Path) -> str:
    """Renames what is not what it should be; returns its new name."""
    number = 1
    while is_there(aside := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    path.rename(aside)
    return aside.name


def discard(path: Path) -> None:
    """Removes a file on which nothing depends; a directory in its place is set aside."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        set_aside(path)


def rename_durably(path: Path, target: Path) -> None:
    """Renames within a directory, over what is there."""
    path.replace(target)
    sync_directory(target.parent)


def make_own_directory(path: Path) -> None:
    """As `make_directory`, of one in our own: what else is there is set aside."""
    # A link that leads nowhere is not there, and in the way.
    if (is_there(path) or path.is_symlink()) and not is_directory(path):
        set_aside(path)
    make_directory(path)


def make_directory(path: Path) -> None:
    """Makes a directory for us alone, and what is missing above it, to stay."""
    missing = []
    while not is_directory(path):
        missing.append(path)
        path = path.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        # A directory that we may write to and not read cannot be opened.
        with contextlib.suppress(PermissionError):
            sync_directory(each.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
