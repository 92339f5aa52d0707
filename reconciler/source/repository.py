"""The git repository that holds the config directory: refs, commits, trees and blobs, read only.

Never the working tree, never a hook, never repository configuration that runs something. Every
failure is a `RepositoryError` with a plain sentence, because a repository may vanish, be rewritten
or be repacked at any moment while traffic must not notice. Called by `reconciler.source.source`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from stat import S_ISDIR

from reconciler.errors import MachineError
from reconciler.language.suggest import suggest
from reconciler.libgit2 import pygit2
from reconciler.presence import denied_at, found_at, is_directory
from reconciler.source.ignoring import BYTES_MAX, NOTHING, Ignoring, parse
from reconciler.source.quarantine import object_directories
from reconciler.source.tree_diff import ignoring_file

# A working tree owned by another user is the normal case for a daemon with a user of its own, and
# nothing in a repository is executed here.
pygit2.settings.owner_validation = False

APPLIED_REF = "refs/kakehi/applied"
_FILE_MODES = (pygit2.enums.FileMode.BLOB, pygit2.enums.FileMode.BLOB_EXECUTABLE)
# Only trees that are costly to unpack are kept: flat directories with hundreds of files.
_CACHED_TREE_BYTES_MIN = 16 * 1024
_CACHED_TREES = 8
# Names of refs that one which is not there may have been meant for.
_SPACES = re.compile("refs/(?:heads|tags|remotes)/")
_NAMES_LOOKED_AT_MAX = 2_000
# Git holds the lock of a ref for about a millisecond.
_LOCK_STALE_S = 5.0


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


@dataclass(frozen=True, slots=True)
class CommitNote:
    """What a person recognises a commit by."""

    author: str
    subject: str


class Repository:
    """One open repository. Reopened by `reconciler.source.source` when it was replaced on disk."""

    def __init__(self, directory: Path) -> None:
        try:
            place = _existing(directory)
            found = pygit2.discover_repository(place)
            if found is not None:
                # From the directory and not from what was found: a git directory that lies
                # elsewhere (`--separate-git-dir`, a link) does not know its working tree.
                self._git = pygit2.Repository(place)
                for objects in object_directories():
                    self._git.odb.add_disk_alternate(objects)
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            _expect_looked_for(directory)
            raise RepositoryError(
                f"cannot open the git repository of {directory}: {error}"
            ) from None
        if found is None:
            _expect_looked_for(directory)
            message = f"{directory} is not in a git repository (make one: `git init`)"
            raise NoRepositoryError(message)
        try:
            self.git_dir = Path(self._git.path).resolve()
            self.common_dir = _common_dir(self.git_dir)
            self.prefix = self._prefix(directory)
            # Looked at before each step of a commit: the paths are made once.
            self._way_in = None if self._git.is_bare else Path(self._git.workdir, ".git")
            self._identity = self._inodes()
            self._way = self._way_here()
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
        place, top = directory.resolve(), Path(self._git.workdir).resolve()
        if self.holds(directory):
            # Where hooks run: what they ask about is the whole repository.
            return ""
        if not place.is_relative_to(top):
            raise RepositoryError(
                f"{directory} is not in the working tree of its repository, {top}"
            )
        inside = place.relative_to(top)
        return "" if inside == Path() else inside.as_posix()

    def holds(self, directory: Path) -> bool:
        """Whether a directory is git's own, or lies in it."""
        place = directory.resolve()
        return place == self.git_dir or self.git_dir in place.parents

    @property
    def git(self) -> pygit2.Repository:
        """The repository for who has more to ask of it: `reconciler.cli.trees.working_tree`."""
        return self._git

    def is_current(self) -> bool:
        """Whether this is still the repository that lies at its place."""
        try:
            if self._inodes() != self._identity:
                return False
        except OSError:
            return False
        # The working tree may be gone while we follow.
        return self._way_here() in (None, self._way)

    def _way_here(self) -> tuple[int, int, int] | None:
        """What leads from the working tree to the git directory: that, a link to it, or a file."""
        found = found_at(self._way_in) if self._way_in else None
        if found is None:
            return None
        return found.st_dev, found.st_ino, 0 if S_ISDIR(found.st_mode) else found.st_mtime_ns

    def _inodes(self) -> tuple[int, int, int, int]:
        own = self.git_dir.stat()
        common = own if self.common_dir == self.git_dir else self.common_dir.stat()
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
            found = self._git.lookup_reference(ref)
        except (KeyError, ValueError):
            missing = f"{_short(ref)} does not exist in {self.git_dir}{self._meant(ref)}"
            raise NoRefError(missing) from None
        except (pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{_short(ref)} cannot be resolved: {error}") from None
        try:
            return str(found.peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            self._expect_objects()
            raise RepositoryError(f"{_short(ref)} cannot be read: {error}") from None

    def _expect_objects(self) -> None:
        """See whether it is a right that is missing. Raises `RepositoryError`."""
        for each in (self.git_dir / "HEAD", self.common_dir / "refs", self.common_dir / "objects"):
            _expect_not_denied(f"cannot read the git repository {self.git_dir}", each)

    def is_awaited(self, ref: str) -> bool:
        """Whether somebody is about to make a ref: HEAD names it, or there are no refs at all."""
        try:
            return ref == self.head_ref() or next(iter(self._git.references), None) is None
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return False

    def _meant(self, name: str) -> str:
        """The nearest name of a ref, as the end of a sentence."""
        try:
            listed = list(islice(self._git.references, _NAMES_LOOKED_AT_MAX))
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return ""
        spelled = {_SPACES.sub("", ref): None for ref in listed if _SPACES.match(ref)}
        meant = suggest(_SPACES.sub("", name), spelled)
        return f': did you mean "{meant}"?' if meant else ""

    def find_commit(self, spec: str) -> str:
        """The commit that a full or abbreviated id, branch, tag or expression names."""
        try:
            return str(self._git.revparse_single(spec).peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError, OSError):
            self._expect_objects()
            missing = f"{spec!r} names no commit of {self.git_dir}{self._meant(spec)}"
            raise UnknownCommitError(missing) from None

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
            inner = self._entry(top, self.prefix) if self.prefix else None
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            # One that is not here may come, or be mended; it has not been seen to be empty.
            raise self._unreadable("commit", bytes.fromhex(commit), error) from None
        if not self.prefix:
            return top
        if inner is None:
            message = f"commit {commit[:12]} has no directory {self.prefix}"
            raise NoConfigurationError(message, commit)
        if not isinstance(inner, pygit2.Tree):
            message = f"{self.prefix} is not a directory in commit {commit[:12]}"
            raise NoConfigurationError(message, commit)
        return str(inner.id)

    def _entry(self, tree: str, path: str) -> pygit2.Object | None:
        """What a tree has at a path; None when it has nothing there.

        Step by step, so that a tree which cannot be read, a `KeyError`, is not taken for one that
        does not have the name.
        """
        inside, found = self._git[tree].peel(pygit2.Tree), None
        for name in path.split("/"):
            if found is not None:
                if not isinstance(found, pygit2.Tree):
                    return None
                inside = self._git[found.id].peel(pygit2.Tree)
            if name not in inside:
                return None
            found = inside[name]
        return found

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
            found = self._entry(tree, path)
        except (KeyError, ValueError, TypeError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from None
        if not isinstance(found, pygit2.Blob) or found.filemode not in _FILE_MODES:
            return None
        return self.read_blob(found.id.raw)

    def rehearsed(self, tree: str, path: str) -> bytes | None:
        """What `file_at` does; the trees on the way are read as they are to be compared."""
        folders = path.split("/")[:-1]
        try:
            found = [self._entry(tree, "/".join(folders[: at + 1])) for at in range(len(folders))]
        except (KeyError, ValueError, TypeError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from None
        for oid in (bytes.fromhex(tree), *(each.id.raw for each in found if each is not None)):
            self.read_tree(oid)
        return self.file_at(tree, path)

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
            raise self._unreadable("blob", oid, error) from None

    def read_blob(self, oid: bytes) -> bytes:
        """The content of a blob."""
        return self._read(oid, "blob")

    def _read(self, oid: bytes, kind: str) -> bytes:
        try:
            return bytes(self._git.odb.read(pygit2.Oid(raw=oid))[1])
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise self._unreadable(kind, oid, error) from None

    def _unreadable(self, kind: str, oid: bytes, error: Exception) -> RepositoryError:
        name = oid.hex()[:12]
        remote = self._promisor() if isinstance(error, KeyError) else None
        if remote is None:
            return RepositoryError(f"{kind} {name} cannot be read: {error}")
        return RepositoryError(
            f"{kind} {name} is not here: this is a partial clone. Fetch everything once, and what "
            f"comes later whole: `git --git-dir={self.git_dir} fetch --refetch --no-filter {remote}"
            f" && git --git-dir={self.git_dir} config --unset remote.{remote}.partialclonefilter`"
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


def _expect_looked_for(directory: Path) -> None:
    """Tell a repository that may not be looked at from none at all. Raises `RepositoryError`."""
    place = directory.absolute()
    for each in (place, *place.parents):
        way = each / ".git"
        _expect_not_denied(
            f"cannot look for the git repository of {directory}",
            way / "HEAD" if is_directory(way) else way,
        )


def _expect_not_denied(doing: str, path: Path) -> None:
    denied = denied_at(path)
    if denied is not None:
        raise RepositoryError(f"{doing}: {denied}: {os.strerror(errno.EACCES)}")


def _existing(directory: Path) -> str:
    """The directory, or the one above it that is there: a commit may have taken it away."""
    place = directory.absolute()
    return str(next(each for each in (place, *place.parents) if is_directory(each)))


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
