"""Why a file that an entity names is not in a commit: one text, whoever asks for it.

Working trees have the same reasons (`reconciler.cli.trees.files`). Called by
`reconciler.source.source`, and by the command line for commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reconciler.errors import UnreadableError
from reconciler.libgit2 import pygit2
from reconciler.materials.reading import Guesses
from reconciler.source.git.repository import Repository
from reconciler.source.git.repository_errors import RepositoryError

UNCOMMITTED = "commit it, or keep it outside of the repository under an absolute path"


def a_link() -> UnreadableError:
    """The error for a file that is a symbolic link, or lies behind one."""
    return UnreadableError("symbolic links are not followed", "name the file itself")


def of_another_repository() -> UnreadableError:
    """The error for a file that is another repository's."""
    message = "the file lies in a repository of its own, such as a submodule"
    return UnreadableError(message, "copy it to where a commit of this one has it")


def a_directory() -> UnreadableError:
    """The error for a name that is no file's."""
    return UnreadableError("it is a directory")


def not_in_commit(
    repository: Repository,
    tree: str | None,
    path: str,
    guesses: Guesses,
    overlay: Mapping[str, bytes | None] = MappingProxyType({}),
) -> UnreadableError:
    """The error for a file that is named and not there, with the one that may be meant.

    `guesses` are those of whoever looks at this tree with this overlay.
    """
    otherwise = _in_its_place(repository, tree, path) if tree and path not in overlay else None
    if otherwise is not None:
        return otherwise
    where = f"{repository.prefix}/{path}" if repository.prefix else path
    message = f"the file is not in the commit: looked for {where}"

    def names() -> set[str]:
        return _names_beside(repository, tree, path, overlay)

    return UnreadableError(message, guesses.nearest(path, names, UNCOMMITTED))


def _names_beside(
    repository: Repository, tree: str | None, path: str, overlay: Mapping[str, bytes | None]
) -> set[str]:
    folder = path.rpartition("/")[0]
    names = set(repository.objects.names_in(tree, folder) if tree else ())
    for laid_over, content in overlay.items():
        inside, _, name = laid_over.rpartition("/")
        if inside == folder:
            (names.discard if content is None else names.add)(name)
    return names


def _in_its_place(repository: Repository, tree: str, path: str) -> UnreadableError | None:
    """What a commit has of that name, or on the way to it, and is no regular file."""
    steps, found = path.split("/"), None
    try:
        for length in range(1, len(steps) + 1):
            found = repository.objects.entry(tree, "/".join(steps[:length]))
            if found is None:
                return None
            if found.filemode == pygit2.enums.FileMode.LINK:
                return a_link()
            if found.filemode == pygit2.enums.FileMode.COMMIT:
                return of_another_repository()
        return a_directory() if isinstance(found, pygit2.Tree) else None
    except (KeyError, ValueError, TypeError, pygit2.GitError, OSError, RepositoryError):
        return None
