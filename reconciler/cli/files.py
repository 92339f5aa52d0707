"""Reads a configuration directory for the commands: the working tree, a commit, or the difference.

What counts as configuration is what `reconciler.tree_diff` says for commits: regular files with a
YAML suffix at any depth, nothing hidden, no symbolic links. Nothing in a repository is executed,
and the git program is not needed.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.cli.exits import CommandError, UsageError

if TYPE_CHECKING:
    from reconciler.repository import Repository

FILE_BYTES_MAX = 4 * 1024 * 1024 + 1
"""One more than the loader takes: enough for it to see that a file is too large."""

_SUFFIXES = (".yaml", ".yml")


def is_configuration(path: str) -> bool:
    """Tell whether a path relative to the config directory is one that the proxy reads."""
    hidden = any(part.startswith(".") for part in PurePosixPath(path).parts)
    return path.endswith(_SUFFIXES) and not hidden


def all_files(directory: Path, hidden: bool = False) -> Iterator[str]:
    """Return the path of every regular file in a stable order; never those of git itself."""
    if not directory.is_dir():
        raise CommandError(f"{directory} is not a directory")

    def wanted(name: str) -> bool:
        return name != ".git" if hidden else not name.startswith(".")

    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(filter(wanted, folders))
        for name in sorted(filter(wanted, names)):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(directory).as_posix()


def read(path: Path) -> bytes:
    """Return the content of a file, cut where the loader would refuse it anyway."""
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX)


def of_working_tree(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Return the path and content of every configuration file as it is on disk."""
    for path in all_files(directory):
        if is_configuration(path):
            yield path, read(directory / path)


def of_commit(directory: Path, ref: str) -> Iterator[tuple[str, bytes]]:
    """Return the path and content of every configuration file of a commit."""
    from reconciler.repository import RepositoryError
    from reconciler.tree_diff import diff_trees

    repository = open_repository(directory)
    try:
        tree = repository.config_tree(repository.find_commit(ref))
    except RepositoryError as error:
        raise UsageError(str(error)) from None
    found = diff_trees(repository.read_tree, None, bytes.fromhex(tree))
    for path, blob in sorted(found.changed.items()):
        if blob is not None:
            yield path, repository.read_blob(blob)[:FILE_BYTES_MAX]


def open_repository(directory: Path) -> "Repository":
    """Open the repository around a config directory."""
    from reconciler.repository import Repository, RepositoryError

    try:
        return Repository(directory)
    except RepositoryError as error:
        hint = "start one with files to begin from: kakehi init DIR"
        raise CommandError(str(error), hint) from None
