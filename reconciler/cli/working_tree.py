"""Looks at a config directory with git's eyes: what was edited since a commit, what it ignores.

`plan` sends the edited files to the daemon; `validate` looks for keys in what is committed.
"""

from collections.abc import Iterator
from pathlib import Path

import pygit2

from reconciler.cli import files
from reconciler.cli.exits import CommandError


class WorkingTree:
    """The config directory in a working tree, as git sees it."""

    def __init__(self, directory: Path) -> None:
        repository = files.open_repository(directory)
        self._git = pygit2.Repository(str(repository.git_dir))
        if self._git.is_bare:
            raise CommandError(
                f"{directory} is a bare repository and has no working tree",
                "name a clone of it, or a commit with --ref",
            )
        self.directory = directory.resolve()
        self._prefix = f"{repository.prefix}/" if repository.prefix else ""

    def has(self, commit: str) -> bool:
        """Tell whether this clone has a commit."""
        return commit in self._git

    def committable(self) -> Iterator[tuple[str, bytes]]:
        """Return path and content of every file, hidden or not, that git does not ignore."""
        for path in files.all_files(self.directory, hidden=True):
            if not self._git.path_is_ignored(self._prefix + path):
                yield path, files.read(self.directory / path)

    def wanted(self) -> Iterator[tuple[str, bytes]]:
        """Return path and content of every file that the daemon reads or may be asked for."""
        for path, content in self.committable():
            if files.is_configuration(path) or files.may_be_material(path, content):
                yield path, content

    def never_commits(self, path: str) -> bool:
        """Tell whether git leaves a file out: it is ignored, and was not added all the same."""
        name = self._prefix + path
        return self._git.path_is_ignored(name) and name not in self._git.index

    def edited_since(self, commit: str) -> dict[str, bytes | None]:
        """Return the configuration files that differ from those of a commit; None: it is gone."""
        tree = self._git[commit].peel(pygit2.Commit).tree
        edited: dict[str, bytes | None] = {}
        for path in sorted(self._candidates(tree)):
            name = path.removeprefix(self._prefix)
            if not path.startswith(self._prefix):
                continue
            on_disk = self.directory / name
            present = on_disk.is_file() and not on_disk.is_symlink()
            content = files.read(on_disk) if present else None
            before = _content(tree, path)
            if not files.is_configuration(name) and not files.may_be_material(
                name, content, before
            ):
                continue
            if content != before:
                edited[name] = content
        return edited

    def _candidates(self, tree: pygit2.Tree) -> set[str]:
        """Return the paths that may differ, by the index.

        The index knows from a file's times and size that nobody touched it, so that a hundred
        thousand files are not read again.
        """
        index = self._git.index
        index.read()
        untracked = (
            pygit2.enums.DiffOption.INCLUDE_UNTRACKED
            | pygit2.enums.DiffOption.RECURSE_UNTRACKED_DIRS
        )
        diffs = (index.diff_to_tree(tree), index.diff_to_workdir(untracked))
        deltas = (delta for diff in diffs for delta in diff.deltas)
        return {side.path for delta in deltas for side in (delta.old_file, delta.new_file)}


def _content(tree: pygit2.Tree, path: str) -> bytes | None:
    try:
        found = tree[path]
    except KeyError:
        return None
    if isinstance(found, pygit2.Blob) and found.filemode != pygit2.enums.FileMode.LINK:
        return found.data[: files.FILE_BYTES_MAX]
    return None


def every_file_of(directory: Path, ref: str) -> Iterator[tuple[str, bytes]]:
    """Return path and content of every file of the config directory in a commit."""
    repository = files.open_repository(directory)
    git = pygit2.Repository(str(repository.git_dir))
    root = git[repository.config_tree(repository.find_commit(ref))]
    pending = [("", root)]
    while pending:
        prefix, found = pending.pop()
        if isinstance(found, pygit2.Tree):
            pending.extend(
                (f"{prefix}/{item.name}" if prefix else str(item.name), item) for item in found
            )
        elif isinstance(found, pygit2.Blob):
            yield prefix, found.data[: files.FILE_BYTES_MAX]
