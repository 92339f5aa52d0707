"""Copies, in memory, of the contents that workers read: for a state directory that is lost.

Where the file of a certificate is another one by now, or there never was one (what an authority has
issued lies in the state directory alone), what is served would be nowhere else on the machine.
Bounded: of a site with more, the rest is written anew from its files, as far as they still have it.
Called by `reconciler.storage.kept.contents`.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from schemas.messages.files import read_regular

COPIES_BYTES_MAX = 16 * 1024 * 1024
"""Some three thousand certificates with their keys."""


class Copies:
    """Contents by hash, up to so many bytes; for several threads."""

    def __init__(self, bytes_max: int = COPIES_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._contents: dict[str, bytes] = {}
        self._bytes = 0

    def hold(self, digest: str, content: bytes) -> None:
        """Keep one, if there is room."""
        if digest in self._contents or self._bytes + len(content) > self._bytes_max:
            return
        self._contents[digest] = content
        self._bytes += len(content)

    def get(self, digest: str) -> bytes | None:
        """Return one that was kept."""
        return self._contents.get(digest)

    def drop(self, digest: str) -> None:
        """Nobody needs it any more."""
        self._bytes -= len(self._contents.pop(digest, b""))

    def fill(self, directory: Path) -> None:
        """Keep what lies in a directory, each in a file of its hash. For a thread."""
        with contextlib.suppress(OSError):
            for path in directory.iterdir():
                if self._bytes >= self._bytes_max:
                    return
                with contextlib.suppress(OSError):
                    content = read_regular(path)
                    if hashlib.sha256(content).hexdigest() == path.name:
                        self.hold(path.name, content)
