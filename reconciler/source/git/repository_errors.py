"""Why a repository cannot give what was asked for: each with a sentence for whoever runs it.

A repository may vanish, be rewritten or be repacked at any moment, while traffic must not notice.
Raised by all of `reconciler.source`, caught by whoever asks it something.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from reconciler.errors import MachineError
from reconciler.presence import denied_at


class RepositoryError(MachineError):
    """The repository cannot give what was asked for, now. The running state is held."""


class NoRepositoryError(RepositoryError):
    """There is none: somebody has yet to make it."""


class NoRefError(RepositoryError):
    """The repository can be read, and has no such ref."""


class UnknownCommitError(RepositoryError):
    """What somebody named is no commit of the repository."""


class NoConfigurationError(RepositoryError):
    """A commit without any configuration; `commit` is None where only its tree is known.

    Nobody means to delete everything by a commit that happens to be empty.
    """

    def __init__(self, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        self.commit = commit


def expect_not_denied(doing: str, path: Path) -> None:
    """See whether it is a right that is missing. Raises `RepositoryError`."""
    denied = denied_at(path)
    if denied is not None:
        raise RepositoryError(f"{doing}: {denied}: {os.strerror(errno.EACCES)}")
