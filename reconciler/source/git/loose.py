"""Objects that lie in a file each, looked through before libgit2 reads them.

A power cut may leave such a file without its end. libgit2 (1.9) goes round for ever in one whose
compressed bytes end too early, and its caller with it, whatever thread it is. So whatever is read
by us, object by object, is inflated here first; what is in packs, which is nearly everything, costs
a look for a file that is not there. Called by the rest of `reconciler.source.git`.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from reconciler.source.git.repository_errors import RepositoryError

_ID_LENGTH = 40
_LOOKED_AT_BYTES_MAX = 64 * 1024 * 1024
"""Trees of a million files are shorter; what is longer is not looked through."""
_READ_BYTES = 64 * 1024


class Loose:
    """Those of one repository: in its own directory of objects, and in those that it borrows."""

    def __init__(self, own: Path, borrowed: Iterable[str]) -> None:
        self._directories = [str(own), *borrowed, *_alternates(own)]

    def expect_whole(self, name: str) -> None:
        """Look through an object, by its id or the beginning of it.

        Raises `RepositoryError` when its end is missing, or it cannot be inflated.
        """
        for directory in self._directories:
            for path in _paths(directory, name):
                if (compressed := _compressed(path)) is not None:
                    _inflated(compressed, name, path)

    def read(self, name: str) -> tuple[str, bytes] | None:
        """What kind an object is and its content, by its id; None where libgit2 is to be asked.

        That is where it lies in a pack. What has been inflated to see its end need not be once
        more. Raises `RepositoryError` as `expect_whole`, and where it is not what its id says.
        """
        for directory in self._directories:
            [path] = _paths(directory, name)
            if (compressed := _compressed(path)) is not None:
                whole = _inflated(compressed, name, path)
                if whole is None:
                    return None
                if hashlib.sha1(whole, usedforsecurity=False).hexdigest() != name:
                    raise _damaged(name, path, "has another content than its name says")
                head, _, content = whole.partition(b"\0")
                return head.partition(b" ")[0].decode(errors="replace"), content
        return None


def _compressed(path: str) -> bytes | None:
    # A file object takes several times as long to make as such a file to read.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _content(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        # What cannot be read is told by who reads it.
        return None


def _content(descriptor: int) -> bytes | None:
    """All of a file; None for one that is too long.

    A part of it would look like one without its end.
    """
    parts, left = list[bytes](), _LOOKED_AT_BYTES_MAX + 1
    while left and (part := os.read(descriptor, min(left, _READ_BYTES))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts) if left else None


def _inflated(compressed: bytes, name: str, path: str) -> bytes | None:
    """The whole of an object with its head; None for what libgit2 is to be asked about.

    Raises `RepositoryError` when it is damaged.
    """
    inflating = zlib.decompressobj()
    try:
        whole = inflating.decompress(compressed, _LOOKED_AT_BYTES_MAX)
    except zlib.error:
        raise _damaged(name, path, "cannot be inflated") from None
    if inflating.unconsumed_tail:
        return None
    if not inflating.eof:
        raise _damaged(name, path, "ends too early")
    return whole


def _damaged(name: str, path: str, how: str) -> RepositoryError:
    return RepositoryError(
        f"object {name[:12]} is damaged: {path} {how}. Delete that file and fetch or push the "
        "commit again; `git fsck` tells what else is damaged"
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


def _alternates(own: Path) -> list[str]:
    """The directories of objects that another one borrows from (gitrepository-layout(5))."""
    try:
        lines = (own / "info" / "alternates").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [str(own / line) for line in lines if line and not line.startswith("#")]
