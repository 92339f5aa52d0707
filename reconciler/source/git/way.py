"""The way to the config directory as it was named: where it leads, and which links are on it.

A release is often put into service by a link that is swapped (`current`): then the same name means
another repository, while the old one is still there. Used by `reconciler.source.git.repository`.
"""

from __future__ import annotations

import errno
from pathlib import Path

# As the kernel has it.
_LINKS_MAX = 40


class Way:
    """Where a directory was when it was looked at."""

    def __init__(self, directory: Path) -> None:
        """Raises `OSError`, `RuntimeError` where links lead in a circle."""
        self._directory = directory.absolute()
        self._leads_to = directory.resolve()
        self._identity = self._look()
        self.links = _folders_of_links(self._directory)
        """The directories that have the links: in these a swap is an event."""

    def is_same(self) -> bool:
        """Whether it still leads there. A directory that was made anew is no other one."""
        try:
            found = self._look()
            if found is not None and found == self._identity:
                return True
            if self._directory.resolve() != self._leads_to:
                return False
        except RuntimeError:
            return False
        except OSError as error:
            # Who may no longer look at the way has the repository still; a circle leads nowhere.
            return error.errno != errno.ELOOP
        self._identity = found
        return True

    def _look(self) -> tuple[int, int] | None:
        """None where nothing is: a commit may have taken the directory away."""
        try:
            found = self._directory.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino


def _folders_of_links(path: Path) -> list[Path]:
    """The directories of all links on the way to a path, those behind others included."""
    found: dict[Path, None] = {}
    at, pending = Path(path.anchor), list(reversed(path.parts[1:]))
    links = 0
    while pending and links < _LINKS_MAX:
        name = pending.pop()
        if name == "..":
            at = at.parent
            continue
        place = at / name
        if not place.is_symlink():
            at = place
            continue
        links += 1
        found[at] = None
        target = place.readlink()
        pending.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        at = Path(target.anchor) if target.is_absolute() else at
    return list(found)
