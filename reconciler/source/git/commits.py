"""The commits of a repository: who made one, what comes before it, where its configuration lies.

Called by `reconciler.source.source`.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.libgit2 import pygit2
from reconciler.source.git.objects import Objects
from reconciler.source.git.repository_errors import NoConfigurationError, RepositoryError
from schemas.record import record

_CACHED_TREES = 8


@record
class CommitNote:
    """What a person recognises a commit by."""

    author: str
    subject: str


class Commits:
    """The commits of one repository, whose configuration lies below `prefix`."""

    def __init__(self, git: pygit2.Repository, objects: Objects, prefix: str) -> None:
        self._git = git
        self._objects = objects
        self._prefix = prefix
        self._config_trees: dict[str, str] = {}

    def config_tree(self, commit: str) -> str:
        """The tree of the config directory in a commit."""
        found = self._config_trees.get(commit)
        if found is None:
            found = self._find_config_tree(commit)
            if len(self._config_trees) == _CACHED_TREES:
                self._config_trees.clear()
            self._config_trees[commit] = found
        return found

    def _find_config_tree(self, commit: str) -> str:
        try:
            # The tree itself stays unread: a flat one of 10,000 files takes 5 ms to parse.
            top = str(self._commit(commit).tree_id)
            inner = self._objects.entry(top, self._prefix) if self._prefix else None
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            # One that is not here may come, or be mended; it has not been seen to be empty.
            raise self._objects.unreadable("commit", bytes.fromhex(commit), error) from None
        if not self._prefix:
            return top
        if inner is None:
            message = f"commit {commit[:12]} has no directory {self._prefix}"
            raise NoConfigurationError(message, commit)
        if not isinstance(inner, pygit2.Tree):
            message = f"{self._prefix} is not a directory in commit {commit[:12]}"
            raise NoConfigurationError(message, commit)
        return str(inner.id)

    def note(self, commit: str) -> CommitNote:
        """Author and subject; empty when the commit cannot be read any more."""
        try:
            found = self._commit(commit)
            subject = found.message.partition("\n")[0].strip()
            return CommitNote(f"{found.author.name} <{found.author.email}>", subject)
        except (KeyError, ValueError, pygit2.GitError, LookupError, OSError, RepositoryError):
            return CommitNote("", "")

    def message(self, commit: str) -> str:
        """The whole message; empty when the commit cannot be read any more."""
        try:
            return self._commit(commit).message
        except (KeyError, ValueError, pygit2.GitError, LookupError, OSError, RepositoryError):
            return ""

    def is_descendant(self, commit: str, ancestor: str) -> bool:
        """Whether `commit` is `ancestor` or comes after it. False for what cannot be read."""
        if commit == ancestor:
            return True
        try:
            # The newest are what may be damaged: they are looked at one by one.
            self._objects.expect_history(commit)
            return self._git.descendant_of(commit, ancestor)
        except (KeyError, ValueError, pygit2.GitError, OSError, RepositoryError):
            return False

    def first_parents(self, commit: str) -> Iterator[str]:
        """The commits before this one, newest first, along first parents."""
        try:
            found = self._commit(commit)
            while found.parent_ids:
                found = self._commit(str(found.parent_ids[0]))
                yield str(found.id)
        except (KeyError, ValueError, pygit2.GitError, OSError, RepositoryError):
            return

    def _commit(self, commit: str) -> pygit2.Commit:
        return self._objects.commit_of(commit)
