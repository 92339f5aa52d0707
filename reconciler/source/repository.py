"""The git repository that holds the config directory: refs, commits, trees and blobs, read only.

Never the working tree, never a hook, never repository configuration that runs something. Every
failure is a `RepositoryError` with a plain sentence, because a repository may vanish, be rewritten
or be repacked at any moment while traffic must not notice. Called by `reconciler.source.source`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pygit2

from reconciler.errors import MachineError
from reconciler.source.ignoring import BYTES_MAX, NOTHING, Ignoring, parse
from reconciler.source.tree_diff import ignoring_file

# A working tree owned by another user is the normal case for a daemon with a user of its own, and
# nothing in a repository is executed here.
pygit2.settings.owner_validation = False

APPLIED_REF = "refs/kakehi/applied"
_FILE_MODES = (pygit2.enums.FileMode.BLOB, pygit2.enums.FileMode.BLOB_EXECUTABLE)
# Only trees that are costly to unpack are kept: flat directories with hundreds of files.
_CACHED_TREE_BYTES_MIN = 16 * 1024
_CACHED_TREES = 8
# Git holds the lock of a ref for about a millisecond.
_LOCK_STALE_S = 5.0


class RepositoryError(MachineError):
    """The repository cannot give what was asked for, now. The running state is held."""


class NoConfigurationError(RepositoryError):
    """A commit without any configuration; `commit` is None where only its tree is known.

    Nobody means to delete everything by a commit that happens to be empty.
    """

    def __init__(self, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        self.commit = commit


@dataclass(frozen=True, slots=True)
class CommitNote:
    """What a person recognises a commit by."""

    author: str
    subject: str


class Repository:
    """One open repository. Reopened by `reconciler.source.source` when it was replaced on disk."""

    def __init__(self, directory: Path) -> None:
        found = None
        try:
            found = pygit2.discover_repository(str(directory))
            if found is not None:
                self._git = pygit2.Repository(found)
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise RepositoryError(
                f"cannot open the git repository of {directory}: {error}"
            ) from None
        if found is None:
            raise RepositoryError(f"{directory} is not in a git repository (make one: `git init`)")
        try:
            self.git_dir = Path(self._git.path).resolve()
            self.common_dir = _common_dir(self.git_dir)
            self.prefix = self._prefix(directory)
            self._identity = self._inodes()
        except (OSError, RuntimeError, ValueError) as error:
            # A directory on the way may not be searched, or links lead in a circle.
            reason = getattr(error, "strerror", None) or error
            message = f"cannot look at the repository of {directory}: {reason}"
            raise RepositoryError(message) from None
        self._trees: OrderedDict[bytes, bytes] = OrderedDict()
        self._config_trees: dict[str, str] = {}

    def _prefix(self, directory: Path) -> str:
        if self._git.is_bare:
            return ""
        inside = directory.resolve().relative_to(Path(self._git.workdir).resolve())
        return "" if inside == Path() else inside.as_posix()

    def is_current(self) -> bool:
        """Whether this is still the repository that lies at its place."""
        try:
            return self._inodes() == self._identity
        except OSError:
            return False

    def _inodes(self) -> tuple[int, int, int, int]:
        own, common = self.git_dir.stat(), self.common_dir.stat()
        return own.st_dev, own.st_ino, common.st_dev, common.st_ino

    # Refs and commits.

    def head_ref(self) -> str:
        """The branch that HEAD names, also one without commits; "HEAD" when it is detached."""
        try:
            target = self._git.lookup_reference("HEAD").target
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise RepositoryError(f"cannot read HEAD of {self.git_dir}: {error}") from None
        return target if isinstance(target, str) else "HEAD"

    def full_ref(self, name: str) -> str:
        """`main` → `refs/heads/main`; a full name and HEAD stay. Raises when it is no ref name."""
        if name == "HEAD" or name.startswith("refs/"):
            full = name
        elif self.has_ref(f"refs/heads/{name}"):
            full = f"refs/heads/{name}"
        else:
            others = (f"refs/remotes/{name}", f"refs/tags/{name}")
            full = next((each for each in others if self.has_ref(each)), f"refs/heads/{name}")
        if full != "HEAD" and not pygit2.reference_is_valid_name(full):
            raise RepositoryError(f"{name!r} is not a valid branch name")
        return full

    def resolve(self, ref: str) -> str:
        """The commit that a ref points to now."""
        try:
            commit = self._git.lookup_reference(ref).peel(pygit2.Commit)
        except (KeyError, ValueError):
            raise RepositoryError(f"{_short(ref)} does not exist in {self.git_dir}") from None
        except (pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{_short(ref)} cannot be resolved: {error}") from None
        return str(commit.id)

    def find_commit(self, spec: str) -> str:
        """The commit that a full or abbreviated id, branch, tag or expression names."""
        try:
            return str(self._git.revparse_single(spec).peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError, OSError):
            raise RepositoryError(f"{spec!r} names no commit of {self.git_dir}") from None

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
            if not self.prefix:
                # The tree itself stays unread: a flat one of 10,000 files takes 5 ms to parse.
                return str(self._commit(commit).tree_id)
            inner = self._commit(commit).tree[self.prefix]
        except KeyError:
            message = f"commit {commit[:12]} has no directory {self.prefix or '/'}"
            raise NoConfigurationError(message, commit) from None
        except (ValueError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"commit {commit[:12]} cannot be read: {error}") from None
        if not isinstance(inner, pygit2.Tree):
            message = f"{self.prefix} is not a directory in commit {commit[:12]}"
            raise NoConfigurationError(message, commit)
        return str(inner.id)

    def note(self, commit: str) -> CommitNote:
        """Author and subject; empty when the commit cannot be read any more."""
        try:
            found = self._commit(commit)
            subject = found.message.partition("\n")[0].strip()
            return CommitNote(f"{found.author.name} <{found.author.email}>", subject)
        except (KeyError, ValueError, pygit2.GitError, LookupError, OSError):
            return CommitNote("", "")

    def message(self, commit: str) -> str:
        """The whole message; empty when the commit cannot be read any more."""
        try:
            return self._commit(commit).message
        except (KeyError, ValueError, pygit2.GitError, LookupError, OSError):
            return ""

    def branches(self) -> list[str]:
        """The names of the local branches."""
        try:
            return sorted(self._git.branches.local)
        except (pygit2.GitError, OSError):
            return []

    def remotes(self) -> list[str]:
        """The names of the remotes that are configured."""
        try:
            return sorted(name for name in self._git.remotes.names() if name)
        except (pygit2.GitError, OSError):
            return []

    def is_descendant(self, commit: str, ancestor: str) -> bool:
        """Whether `commit` is `ancestor` or comes after it. False for what cannot be read."""
        if commit == ancestor:
            return True
        try:
            return self._git.descendant_of(commit, ancestor)
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return False

    def first_parents(self, commit: str) -> Iterator[str]:
        """The commits before this one, newest first, along first parents."""
        try:
            found = self._commit(commit)
            while found.parents:
                found = found.parents[0]
                yield str(found.id)
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return

    def mark_applied(self, commit: str) -> None:
        """Keeps the applied commit alive through force-push and gc."""
        try:
            self._break_stale_lock()
            self._git.references.create(APPLIED_REF, commit, force=True)
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"cannot move {APPLIED_REF}: {error}") from None

    def _break_stale_lock(self) -> None:
        """A daemon that was killed while it moved its ref left the lock behind."""
        lock = self.common_dir / f"{APPLIED_REF}.lock"
        try:
            age_s = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            return
        if age_s > _LOCK_STALE_S:
            lock.unlink(missing_ok=True)

    def _commit(self, commit: str) -> pygit2.Commit:
        return self._git[commit].peel(pygit2.Commit)

    def has_ref(self, name: str) -> bool:
        """Whether there is a ref of this full name."""
        try:
            self._git.lookup_reference(name)
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return False
        return True

    # Objects.

    def file_at(self, tree: str, path: str) -> bytes | None:
        """The content of a regular file in a tree; None when there is none of that name."""
        try:
            found = self._git[tree].peel(pygit2.Tree)[path]
        except KeyError:
            return None
        except (ValueError, TypeError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from None
        is_file = isinstance(found, pygit2.Blob) and found.filemode in _FILE_MODES
        return self.read_blob(found.id.raw) if is_file else None

    def names_in(self, tree: str, folder: str) -> list[str]:
        """The names in a directory of a tree; none when there is no such directory."""
        try:
            found: object = self._git[tree].peel(pygit2.Tree)
            if folder:
                found = self._git[tree].peel(pygit2.Tree)[folder]
        except (KeyError, ValueError, TypeError, pygit2.GitError, OSError):
            return []
        return [str(each.name) for each in found] if isinstance(found, pygit2.Tree) else []

    def read_tree(self, oid: bytes) -> bytes:
        """The content of a tree object."""
        cached = self._trees.get(oid)
        if cached is not None:
            self._trees.move_to_end(oid)
            return cached
        content = self._read(oid, "tree")
        if len(content) >= _CACHED_TREE_BYTES_MIN:
            self._trees[oid] = content
            if len(self._trees) > _CACHED_TREES:
                self._trees.popitem(last=False)
        return content

    def ignoring(self, tree: bytes) -> Ignoring:
        """What the `.kakehiignore` in a tree leaves out."""
        blob = ignoring_file(self.read_tree(tree))
        if blob is None or self.blob_size(blob) > BYTES_MAX:
            return NOTHING
        return parse(self.read_blob(blob))

    def blob_size(self, oid: bytes) -> int:
        """The size of a blob without reading it whole."""
        try:
            return int(self._git.odb.read_header(pygit2.Oid(raw=oid))[1])
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"blob {oid.hex()[:12]} cannot be read: {error}") from None

    def read_blob(self, oid: bytes) -> bytes:
        """The content of a blob."""
        return self._read(oid, "blob")

    def _read(self, oid: bytes, kind: str) -> bytes:
        try:
            return bytes(self._git.odb.read(pygit2.Oid(raw=oid))[1])
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{kind} {oid.hex()[:12]} cannot be read: {error}") from None


def _common_dir(git_dir: Path) -> Path:
    """Where the refs of all worktrees lie: git keeps the way there in a file of that name."""
    try:
        return (git_dir / (git_dir / "commondir").read_text().strip()).resolve()
    except FileNotFoundError:
        return git_dir


def _short(ref: str) -> str:
    for start, name in (("refs/heads/", "branch"), ("refs/tags/", "tag"), ("refs/remotes/", "")):
        if ref.startswith(start):
            return f"{name} {ref.removeprefix(start)}".strip()
    return ref
