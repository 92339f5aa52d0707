"""The git repository that holds the config directory: where it lies, and whether it is still there.

Never the working tree, never a hook, never repository configuration that runs something. What it
has is asked of its refs, its commits and its objects. Opened by `reconciler.source.source`, and by
`reconciler.cli.trees.files`.
"""

from __future__ import annotations

from pathlib import Path
from stat import S_ISDIR

from reconciler.libgit2 import pygit2
from reconciler.presence import found_at, is_directory, leads_to_itself
from reconciler.source.git.applied import AppliedCommits
from reconciler.source.git.commits import Commits
from reconciler.source.git.loose import Loose
from reconciler.source.git.objects import Objects
from reconciler.source.git.quarantine import object_directories
from reconciler.source.git.refs import Refs
from reconciler.source.git.repository_errors import (
    NoRepositoryError,
    RepositoryError,
    expect_not_denied,
)
from reconciler.source.git.way import Way

# A working tree owned by another user is the normal case for a daemon with a user of its own, and
# nothing in a repository is executed here.
pygit2.settings.owner_validation = False


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
            self._way_to_git = self._way_here()
            self._way = Way(directory)
        except (OSError, RuntimeError, ValueError) as error:
            # A directory on the way may not be searched, or links lead in a circle.
            reason = getattr(error, "strerror", None) or error
            message = f"cannot look at the repository of {directory}: {reason}"
            raise RepositoryError(message) from None
        loose = Loose(self.common_dir / "objects", object_directories())
        self.objects = Objects(self._git, self.git_dir, loose)
        self.refs = Refs(self._git, self.objects, self.git_dir, self.common_dir)
        self.applied = AppliedCommits(self.git_dir, self.common_dir, loose)
        self.applied_apart = AppliedCommits(self.git_dir, self.common_dir, loose)
        """The same for the thread that moves them."""
        self.commits = Commits(self._git, self.objects, self.prefix)

    @property
    def git(self) -> pygit2.Repository:
        """The repository for who has more to ask of it: `reconciler.cli.trees.working_tree`."""
        return self._git

    def holds(self, directory: Path) -> bool:
        """Whether a directory is git's own, or lies in it."""
        place = directory.resolve()
        return place == self.git_dir or self.git_dir in place.parents

    def is_current(self) -> bool:
        """Whether this is still the repository that lies at its place."""
        try:
            if self._inodes() != self._identity:
                return False
        except OSError:
            return False
        # The working tree may be gone while we follow.
        return self._way_here() in (None, self._way_to_git) and self._way.is_same()

    @property
    def links(self) -> list[Path]:
        """The directories of links by which it is named."""
        return self._way.links

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


def _expect_looked_for(directory: Path) -> None:
    """Tell a repository that may not be looked at from none at all. Raises `RepositoryError`."""
    place = directory.absolute()
    for each in (place, *place.parents):
        way = each / ".git"
        expect_not_denied(
            f"cannot look for the git repository of {directory}",
            way / "HEAD" if is_directory(way) else way,
        )


def _existing(directory: Path) -> str:
    """The directory, or the one above it that is there: a commit may have taken it away."""
    place = directory.absolute()
    if leads_to_itself(place):
        raise RepositoryError(f"{directory} leads to itself by its symbolic links")
    return str(next(each for each in (place, *place.parents) if is_directory(each)))


def _common_dir(git_dir: Path) -> Path:
    """Where the refs of all worktrees lie: git keeps the way there in a file of that name."""
    try:
        return (git_dir / (git_dir / "commondir").read_text().strip()).resolve()
    except FileNotFoundError:
        return git_dir
