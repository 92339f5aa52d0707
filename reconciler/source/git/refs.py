"""The refs of a repository, and what people call its commits by.

Called by `reconciler.source.source`, and for questions through it.
"""

from __future__ import annotations

import hashlib
import re
from itertools import islice
from pathlib import Path

from reconciler.language.suggest import suggest
from reconciler.libgit2 import pygit2
from reconciler.source.git.objects import Objects
from reconciler.source.git.repository_errors import (
    NoRefError,
    RepositoryError,
    UnknownCommitError,
    expect_not_denied,
)
from schemas.entities.secrecy import without_credentials

REMOTE_REFS = "refs/kakehi/remote/"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_ID = re.compile("[0-9a-fA-F]{4,40}")
_FULL_ID_CHARS = 40
# What an expression begins with: `main` of `main~3`.
_BASE = re.compile(r"[^~^:@]+")
# Where a short name is looked for, in that order (gitrevisions(7)).
_SPELLED = ("refs/", "refs/tags/", "refs/heads/", "refs/remotes/")
# Names of refs that one which is not there may have been meant for.
_SPACES = re.compile("refs/(?:heads|tags|remotes)/")
_NAMES_LOOKED_AT_MAX = 2_000


class Refs:
    """The refs of one repository, as somebody reads them."""

    def __init__(
        self, git: pygit2.Repository, objects: Objects, git_dir: Path, common_dir: Path
    ) -> None:
        self._git = git
        self._objects = objects
        self._git_dir = git_dir
        self._common_dir = common_dir

    def head(self) -> str:
        """The branch that HEAD names, also one without commits; "HEAD" when it is detached."""
        try:
            target = self._git.lookup_reference("HEAD").target
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise RepositoryError(f"cannot read HEAD of {self._git_dir}: {error}") from None
        return target if isinstance(target, str) else "HEAD"

    def full(self, name: str) -> str:
        """`main` → `refs/heads/main`; a full name and HEAD stay. Raises when it is no ref name."""
        if name == "HEAD" or name.startswith("refs/"):
            full = name
        elif self.has(f"refs/heads/{name}"):
            full = f"refs/heads/{name}"
        else:
            others = (f"refs/remotes/{name}", f"refs/tags/{name}")
            full = next((each for each in others if self.has(each)), f"refs/heads/{name}")
        if full != "HEAD" and not pygit2.reference_is_valid_name(full):
            raise RepositoryError(f"{name!r} is not a valid branch name")
        return full

    def resolve(self, ref: str) -> str:
        """The commit that a ref points to now."""
        try:
            found = self._git.lookup_reference(ref)
        except (KeyError, ValueError):
            missing = f"{_short(ref)} does not exist in {self._git_dir}{self._meant(ref)}"
            raise NoRefError(missing) from None
        except (pygit2.GitError, OSError) as error:
            raise RepositoryError(f"{_short(ref)} cannot be resolved: {error}") from None
        try:
            return str(self._objects.commit_of(str(found.resolve().target)).id)
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            self._expect_objects()
            raise RepositoryError(f"{_short(ref)} cannot be read: {error}") from None

    def has(self, name: str) -> bool:
        """Whether there is a ref of this full name."""
        try:
            self._git.lookup_reference(name)
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return False
        return True

    def find_commit(self, spec: str) -> str:
        """The commit that a full or abbreviated id, branch, tag or expression names."""
        try:
            return str(self._named(spec).id)
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            self._expect_objects()
            if any(map(self._leads_somewhere, _spelled(spec))):
                raise RepositoryError(f"{spec} cannot be read: {error}") from None
            missing = f"{spec!r} names no commit of {self._git_dir}{self._meant(spec)}"
            raise UnknownCommitError(missing) from None

    def _leads_somewhere(self, name: str) -> bool:
        """Whether there is a ref of this full name, and not only one that names none."""
        try:
            return self._git.lookup_reference(name).resolve() is not None
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return False

    def _named(self, spec: str) -> pygit2.Commit:
        """Raises `RepositoryError` for a commit that is damaged, or what libgit2 does."""
        is_id = _ID.fullmatch(spec) is not None
        if is_id and len(spec) == _FULL_ID_CHARS:
            # No ref can be meant, whatever there is (gitrevisions(7)).
            return self._objects.commit_of(spec.lower())
        for name in _spelled(spec):
            if self.has(name):
                target = self._git.lookup_reference(name).resolve().target
                return self._objects.commit_of(str(target))
        base = _BASE.match(spec)
        if base is not None and base[0] != spec:
            # An expression is followed by libgit2, which is to find no object that is damaged.
            self._objects.expect_history(str(self._named(base[0]).id))
        elif is_id:
            self._objects.expect_whole(spec.lower())
        return self._objects.commit_of(str(self._git.revparse_single(spec).id))

    def is_awaited(self, ref: str) -> bool:
        """Whether somebody is about to make a ref: HEAD names it, or there are no refs at all."""
        try:
            return ref == self.head() or next(iter(self._git.references), None) is None
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return False

    def remotes(self) -> list[str]:
        """The names of the remotes that are configured."""
        try:
            return sorted(name for name in self._git.remotes.names() if name)
        except (pygit2.GitError, OSError):
            return []

    def _meant(self, name: str) -> str:
        """The nearest name of a ref, as the end of a sentence."""
        try:
            listed = list(islice(self._git.references, _NAMES_LOOKED_AT_MAX))
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return ""
        spelled = {_SPACES.sub("", ref): None for ref in listed if _SPACES.match(ref)}
        meant = suggest(_SPACES.sub("", name), spelled)
        return f': did you mean "{meant}"?' if meant else ""

    def _expect_objects(self) -> None:
        """See whether it is a right that is missing. Raises `RepositoryError`."""
        for each in (
            self._git_dir / "HEAD",
            self._common_dir / "refs",
            self._common_dir / "objects",
        ):
            expect_not_denied(f"cannot read the git repository {self._git_dir}", each)


def followed_ref(remote: str, branch: str) -> str:
    """Where a branch of the remote is kept: each remote has a place of its own.

    By its name, or for a URL by its hash, without the password, which may change.
    """
    shown = without_credentials(remote)
    digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).hexdigest()
    key = remote if _PLAIN_NAME.fullmatch(remote) else f"url-{digest[:16]}"
    return f"{REMOTE_REFS}{key}/{branch.removeprefix('refs/heads/')}"


def _spelled(spec: str) -> list[str]:
    """The full names of refs that a name may be short for."""
    names = (spec, *(f"{space}{spec}" for space in _SPELLED))
    return [name for name in names if pygit2.reference_is_valid_name(name)]


def _short(ref: str) -> str:
    for start, name in (("refs/heads/", "branch"), ("refs/tags/", "tag"), ("refs/remotes/", "")):
        if ref.startswith(start):
            return f"{name} {ref.removeprefix(start)}".strip()
    return ref
