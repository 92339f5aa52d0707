"""Objects that lie in a file each, looked through before libgit2 reads them.

A power cut may leave such a file without its end. libgit2 (1.9) goes round for ever in one whose
compressed bytes end too early, and its caller with it, whatever thread it is. So whatever is read
by us, object by object, is inflated here first; what is in packs, which is nearly everything, costs
a look for a file that is not there. Called by the rest of `reconciler.source.git`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from reconciler.source.git.errors import RepositoryError

_ID_LENGTH = 40
_READ_BYTES = 64 * 1024
_INFLATED_BYTES = 1024 * 1024


class Loose:
    """Those of one repository: in its own directory of objects, and in those that it borrows."""

    def __init__(self, own: Path, borrowed: Iterable[str]) -> None:
        self._directories = [str(own), *borrowed, *_alternates(own)]

    def expect_whole(self, name: str) -> None:
        """Look through an object, by its id or the beginning of it.

        Raises `RepositoryError` when its end is missing.
        """
        for directory in self._directories:
            for path in _paths(directory, name):
                try:
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                except OSError:
                    # What cannot be read is told by who reads it.
                    continue
                if not _is_whole(descriptor):
                    raise RepositoryError(
                        f"object {name[:12]} is damaged: {path} ends too early. Delete that file "
                        "and fetch or push the commit again; `git fsck` tells what else is damaged"
                    )


def _paths(directory: str, name: str) -> list[str]:
    """Where objects lie whose ids begin so."""
    folder = f"{directory}/{name[:2]}"
    if len(name) == _ID_LENGTH:
        return [f"{folder}/{name[2:]}"]
    try:
        return [str(path) for path in Path(folder).glob(f"{name[2:]}*")]
    except OSError:
        return []


def _is_whole(descriptor: int) -> bool:
    """Whether a file has a whole stream, or something that libgit2 itself refuses."""
    inflating = zlib.decompressobj()
    try:
        with os.fdopen(descriptor, "rb") as file:
            while not inflating.eof and (read := file.read(_READ_BYTES)):
                while read and not inflating.eof:
                    inflating.decompress(read, _INFLATED_BYTES)
                    read = inflating.unconsumed_tail
    except (OSError, zlib.error):
        return True
    return inflating.eof


def _alternates(own: Path) -> list[str]:
    """The directories of objects that another one borrows from (gitrepository-layout(5))."""
    try:
        lines = (own / "info" / "alternates").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [str(own / line) for line in lines if line and not line.startswith("#")]
