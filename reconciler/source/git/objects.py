"""The objects of a repository: the content of trees and blobs.

Called by `reconciler.source.source` and, for the command line, `reconciler.cli.trees.files`.
"""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict, deque
from pathlib import Path

from reconciler.libgit2 import pygit2
from reconciler.source.git.loose import Loose
from reconciler.source.git.repository_errors import RepositoryError

_FILE_MODES = (pygit2.enums.FileMode.BLOB, pygit2.enums.FileMode.BLOB_EXECUTABLE)
# Only trees that are costly to unpack are kept: flat directories with hundreds of files.
_CACHED_TREE_BYTES_MIN = 16 * 1024
_CACHED_TREES = 8
# To look one name up in a tree of thousands, libgit2 unpacks all of it again each time.
_OPENED_NAMES_MIN = 500
# Git packs objects before there are many more commits than that.
_NEWEST = 200
_HISTORY_MAX = 10_000
# Each look, and each question about a commit, asks for the same few again and again.
_KNOWN_COMMITS_MAX = 64

_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
"""Of objects, by their number in packs (gitformat-pack(5))."""


class Objects:
    """The trees and blobs of one repository."""

    def __init__(self, git: pygit2.Repository, git_dir: Path, loose: Loose) -> None:
        self._git = git
        self._git_dir = git_dir
        self._loose = loose
        self._trees: OrderedDict[bytes, bytes] = OrderedDict()
        self._opened: OrderedDict[str, pygit2.Tree] = OrderedDict()
        self._history: set[str] = set()
        self._commits: dict[str, pygit2.Commit] = {}

    def at(self, name: str) -> pygit2.Object:
        """An object by its id. Raises `KeyError` when it is not here, and `RepositoryError`."""
        self._loose.expect_whole(name)
        return self._git[name]

    def commit_of(self, name: str) -> pygit2.Commit:
        """The commit of this id, or that a tag of this id is of. Raises as `at`."""
        known = self._commits.get(name)
        if known is not None:
            return known
        found = self.at(name)
        while isinstance(found, pygit2.Tag):
            found = self.at(str(found.target))
        commit = found.peel(pygit2.Commit)
        if len(self._commits) >= _KNOWN_COMMITS_MAX:
            self._commits.clear()
        self._commits[name] = commit
        return commit

    def tree(self, name: str) -> pygit2.Tree:
        """The tree of this id. Raises as `at`."""
        opened = self._opened.get(name)
        if opened is None:
            opened = self.at(name).peel(pygit2.Tree)
            if len(opened) >= _OPENED_NAMES_MIN:
                self._opened[name] = opened
                if len(self._opened) > _CACHED_TREES:
                    self._opened.popitem(last=False)
        return opened

    def expect_history(self, name: str) -> None:
        """See that no commit is cut off from one back, as far as they may be in files of their own.

        Raises as `at`.
        """
        looked_at: set[str] = set()
        pending = deque([name])
        while pending and len(looked_at) < _NEWEST:
            each = pending.popleft()
            # What comes before a commit that was looked at was looked at with it.
            if each not in looked_at and each not in self._history:
                looked_at.add(each)
                pending.extend(map(str, self.commit_of(each).parent_ids))
        if len(self._history) > _HISTORY_MAX:
            self._history.clear()
        self._history |= looked_at

    def expect_whole(self, start: str) -> None:
        """See that objects whose ids begin so are not cut off. Raises `RepositoryError`."""
        self._loose.expect_whole(start)

    def file_at(self, tree: str, path: str, at_most: int) -> bytes | None:
        """The content of a regular file in a tree; None when there is none of that name.

        In the place of one with more bytes than `at_most` there are so many and one.
        """
        try:
            found = self.entry(tree, path)
        except (KeyError, ValueError, TypeError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from None
        if not isinstance(found, pygit2.Blob) or found.filemode not in _FILE_MODES:
            return None
        return self.read_blob(found.id.raw, at_most)

    def rehearsed(self, tree: str, path: str, at_most: int) -> bytes | None:
        """What `file_at` does; the trees on the way are read as they are to be compared."""
        folders = path.split("/")[:-1]
        try:
            found = [self.entry(tree, "/".join(folders[: at + 1])) for at in range(len(folders))]
        except (KeyError, ValueError, TypeError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from None
        for oid in (bytes.fromhex(tree), *(each.id.raw for each in found if each is not None)):
            self.read_tree(oid)
        return self.file_at(tree, path, at_most)

    def names_in(self, tree: str, folder: str) -> list[str]:
        """The names in a directory of a tree; none when there is no such directory."""
        try:
            inside = self.entry(tree, folder) if folder else None
            if folder and inside is None:
                return []
            found = self.at(str(inside.id) if inside else tree)
        except (KeyError, ValueError, TypeError, pygit2.GitError, OSError, RepositoryError):
            return []
        return [str(each.name) for each in found] if isinstance(found, pygit2.Tree) else []

    def read_tree(self, oid: bytes) -> bytes:
        """The content of a tree object."""
        cached = self._trees.get(oid)
        if cached is not None:
            with contextlib.suppress(KeyError):
                # Another thread may have made room.
                self._trees.move_to_end(oid)
            return cached
        content = self._read(oid, "tree")
        if len(content) >= _CACHED_TREE_BYTES_MIN:
            self._trees[oid] = content
            if len(self._trees) > _CACHED_TREES:
                self._trees.popitem(last=False)
        return content

    def blob_size(self, oid: bytes) -> int:
        """The size of a blob without reading it whole."""
        try:
            return int(self._git.odb.read_header(pygit2.Oid(raw=oid))[1])
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise self.unreadable("blob", oid, error) from None

    def read_blob(self, oid: bytes, at_most: int) -> bytes:
        """The content of a blob; see `file_at` for `at_most`."""
        if self.blob_size(oid) > at_most:
            return bytes(at_most + 1)
        return self._read(oid, "blob")

    def _read(self, oid: bytes, kind: str) -> bytes:
        try:
            found = self._loose.read(oid.hex())
            if found is None:
                number, content = self._git.odb.read(pygit2.Oid(raw=oid))
                found = _KINDS.get(int(number), "object"), bytes(content)
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise self.unreadable(kind, oid, error) from None
        if found[0] != kind:
            # git itself makes no such tree; whoever writes objects by hand may.
            raise RepositoryError(
                f"{oid.hex()[:12]} is a {found[0]}, and the tree that names it says {kind}: that "
                "tree is malformed, as `git fsck` tells; make the commit anew"
            )
        return found[1]

    def unreadable(self, kind: str, oid: bytes, error: Exception) -> RepositoryError:
        """The error of an object that is not here, or cannot be read."""
        name = oid.hex()[:12]
        try:
            self._loose.expect_whole(oid.hex())
        except RepositoryError as damage:
            # It says where it lies, and what to do.
            return damage
        remote = self._promisor() if isinstance(error, KeyError) else None
        if remote is None:
            return RepositoryError(f"{kind} {name} cannot be read: {error}")
        git = f"git --git-dir={self._git_dir}"
        return RepositoryError(
            f"{kind} {name} is not here: this is a partial clone. Fetch everything once, and what "
            f"comes later whole: `{git} fetch --refetch --no-filter {remote}"
            f" && {git} config --unset remote.{remote}.partialclonefilter`"
        )

    def _promisor(self) -> str | None:
        """The remote that has what a partial clone has left out; None for a whole clone."""
        try:
            found = {entry.name: entry.value for entry in self._git.config}
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return None
        for name, value in found.items():
            remote = re.fullmatch(r"remote\.(.+)\.promisor", name)
            if remote and value == "true":
                return remote[1]
        return found.get("extensions.partialclone")

    def entry(self, tree: str, path: str) -> pygit2.Object | None:
        """What a tree has at a path; None when it has nothing there.

        Step by step, so that a tree which cannot be read, a `KeyError`, is not taken for one that
        does not have the name.
        """
        inside, found = self.tree(tree), None
        for name in path.split("/"):
            if found is not None:
                if not isinstance(found, pygit2.Tree):
                    return None
                inside = self.tree(str(found.id))
            if name not in inside:
                return None
            found = inside[name]
        return found
