"""The refs by which commits that were applied outlive force-push and gc, and whose each is.

Several daemons may follow one repository. What the last of them has applied is at one ref, with a
text beside it that says by whom; what each of the others has, at a ref of its own: an annotated
tag, whose message is that text, and whose time is when it was last said. A daemon is known by an
id that it keeps and by what it follows, since machines and directories are given other names.
Opened by `reconciler.source.git.repository`, for `reconciler.loop.applied_ref`.
"""

from __future__ import annotations

import hashlib
import time
from itertools import islice
from pathlib import Path

from reconciler.libgit2 import pygit2
from reconciler.source.git.errors import RepositoryError
from schemas.record import record

APPLIED_REF = "refs/kakehi/applied"
_BY = "refs/kakehi/applied-by"
"""The text; an empty one while it changes hands."""
_OF_OTHERS = "refs/kakehi/applied-by-others/"
_OTHERS_MAX = 64
_REFS_LOOKED_AT_MAX = 200_000
_TEXT_BYTES_MAX = 16_384
OLD_S = 30 * 86_400.0
"""A daemon that runs says it anew each day (`reconciler.loop.applied_ref`)."""
# Git holds the lock of a ref for about a millisecond.
_LOCK_STALE_S = 5.0


@record
class Applier:
    """A daemon that applies commits, as the repository knows it."""

    id: str
    follows: str
    """The full name of the ref."""
    place: str = ""
    """Its machine and state directory, for people: neither makes it another one."""
    run: str = ""
    """Which process of it: two at a time are two daemons, of which one has a copy of the id."""

    @property
    def text(self) -> str:
        """What is written of it."""
        return f"{self.id}\n{self.follows}\n{self.place}\n{self.run}\n"

    @property
    def ref(self) -> str:
        """Its own ref, while another has applied something since."""
        known_by = f"{self.id}\n{self.follows}".encode("utf-8", "surrogateescape")
        return f"{_OF_OTHERS}{hashlib.sha256(known_by).hexdigest()[:40]}"

    def is_same(self, other: Applier | None) -> bool:
        """Whether both are one, wherever it was when either was written."""
        return other is not None and (self.id, self.follows) == (other.id, other.follows)


@record
class Applied:
    """What a daemon has applied last."""

    ref: str
    by: Applier | None
    at: float
    """When it was last said; of the one that lies at the one ref it is not known."""


class TwinError(RepositoryError):
    """Two daemons have one id: the state of one is a copy of the other's."""

    def __init__(self, twin: Applier) -> None:
        super().__init__(f"the daemon of {twin.place} has the same id")
        self.twin = twin


class AppliedCommits:
    """The refs of applied commits in one repository, which are the only ones that we move."""

    def __init__(self, git: pygit2.Repository, common_dir: Path) -> None:
        self._git = git
        self._common_dir = common_dir

    def mark(self, commit: str, by: Applier, *, again: bool = False) -> bool:
        """Keeps the applied commit alive; `by` is whose it is. Raises `RepositoryError`.

        Returns whether it is known as this very process's. Where it was an earlier one's of the
        same daemon, that is left to `claim`, for which nobody waits. `again`: it was known as this
        process's before, so that whoever has its id since is a `TwinError`.
        """
        try:
            former = self._target(_BY)
            if former == _blob_id(by.text):
                self._move(APPLIED_REF, commit)
                return True
            owner = self._applier(former)
            if owner is not None and by.is_same(owner):
                if again:
                    raise TwinError(owner)
                if owner.follows == by.follows:
                    self._move(APPLIED_REF, commit)
                    return False
            self._take_over(former, commit, by)
            return True
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"cannot move {APPLIED_REF}: {_said(error)}") from None

    def claim(self, by: Applier) -> None:
        """Have what is this daemon's known as this process's. Raises `RepositoryError`."""
        try:
            if by.is_same(self._applier(self._target(_BY))):
                self._move(_BY, self._git.create_blob(by.text.encode("utf-8", "surrogateescape")))
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"cannot move {APPLIED_REF}: {_said(error)}") from None

    def _take_over(self, former: pygit2.Oid | None, commit: str, by: Applier) -> None:
        """What was another's becomes ours, and whoever is killed on the way takes nobody's.

        A transaction of git moves refs one by one as well, once it has all locks. So the ref is
        nobody's while it moves, and each has its commit in its own place by then.
        """
        owner, last = self._applier(former), self._target(APPLIED_REF)
        if owner is not None and not by.is_same(owner) and last and last in self._git:
            self._put(owner, str(last))
        self._put(by, commit)
        self._move(_BY, self._git.create_blob(b""))
        self._move(APPLIED_REF, commit)
        self._move(_BY, self._git.create_blob(by.text.encode("utf-8", "surrogateescape")))
        self._remove(by.ref)

    def renew(self, commit: str, by: Applier) -> None:
        """Say anew what is ours, and let go of those of daemons that are gone.

        Raises `RepositoryError`.
        """
        try:
            if not by.is_same(self._applier(self._target(_BY))):
                self._put(by, commit)
            self._forget_old()
        except (KeyError, ValueError, pygit2.GitError, OSError) as error:
            raise RepositoryError(f"cannot move {by.ref}: {_said(error)}") from None

    def _forget_old(self) -> None:
        others = sorted(self._others(), key=lambda each: each.at, reverse=True)
        oldest = time.time() - OLD_S
        for number, each in enumerate(others):
            if number >= _OTHERS_MAX or each.at < oldest:
                self._remove(each.ref)

    def by(self, by: Applier) -> str | None:
        """The ref of what a daemon has applied last; None where it has applied nothing."""
        owner = self._target(_BY)
        is_owner = owner is None or by.is_same(self._applier(owner))
        name = APPLIED_REF if is_owner else by.ref
        return name if self._target(name) is not None else None

    def on(self, follows: str) -> list[Applied]:
        """What was applied by daemons that followed a ref, the one that was said last first."""
        text = self._target(_BY)
        owner = self._applier(text)
        if owner is None and not self._changes_hands(text):
            # Where nothing says whose it is, or the words of an early version, it is anybody's.
            owner = Applier("", follows)
        found = sorted(self._others(), key=lambda each: each.at, reverse=True)
        if self._target(APPLIED_REF) is not None:
            found.insert(0, Applied(APPLIED_REF, owner, 0.0))
        return [each for each in found if each.by is not None and each.by.follows == follows]

    def _others(self) -> list[Applied]:
        """Those that cannot be read as ours are the oldest."""
        try:
            listed = list(islice(self._git.references, _REFS_LOOKED_AT_MAX))
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return []
        return [self._other(name) for name in listed if name.startswith(_OF_OTHERS)]

    def _other(self, name: str) -> Applied:
        target = self._target(name)
        try:
            tag = self._git[target] if target is not None else None
        except (KeyError, ValueError, pygit2.GitError, OSError):
            tag = None
        if not isinstance(tag, pygit2.Tag) or tag.tagger is None:
            return Applied(name, None, 0.0)
        return Applied(name, _applier_of(_decoded(tag.raw_message)), float(tag.tagger.time))

    def _changes_hands(self, blob: pygit2.Oid | None) -> bool:
        return blob is not None and blob == _blob_id("")

    def _applier(self, blob: pygit2.Oid | None) -> Applier | None:
        """Whose text this is; None as well where it is nobody's."""
        try:
            found = self._git[blob] if blob is not None else None
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return None
        if not isinstance(found, pygit2.Blob) or found.size > _TEXT_BYTES_MAX:
            return None
        return _applier_of(_decoded(found.data))

    def _put(self, by: Applier, commit: str) -> None:
        """Have a commit in a daemon's own place. Raises `KeyError` where it is not here."""
        if commit not in self._git:
            # A tag of what is nowhere would end each gc.
            raise KeyError(f"commit {commit[:12]} is not here")
        name = by.ref.removeprefix("refs/")
        lines = (
            f"object {commit}",
            "type commit",
            f"tag {name}",
            f"tagger kakehi <> {int(time.time())} +0000",
            "",
            by.text,
        )
        content = "\n".join(lines).encode("utf-8", "surrogateescape")
        self._move(by.ref, self._git.write(pygit2.enums.ObjectType.TAG, content))

    def _target(self, name: str) -> pygit2.Oid | None:
        try:
            found = self._git.lookup_reference(name).target
        except (KeyError, ValueError, pygit2.GitError, OSError):
            return None
        return found if isinstance(found, pygit2.Oid) else None

    def _move(self, name: str, to: str | pygit2.Oid) -> None:
        self._break_stale_lock(name)
        self._git.references.create(name, to, force=True)

    def _remove(self, name: str) -> None:
        self._break_stale_lock(name)
        self._git.references.delete(name)

    def _break_stale_lock(self, name: str) -> None:
        """A daemon that was killed while it moved its ref left the lock behind."""
        lock = self._common_dir / f"{name}.lock"
        try:
            age_s = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            return
        if age_s > _LOCK_STALE_S:
            lock.unlink(missing_ok=True)


def _applier_of(text: str) -> Applier | None:
    id_, *rest = text.split("\n")
    if len(rest) < 2:
        return None
    return Applier(id_, *rest[:3])


def _said(error: Exception) -> object:
    # Of a `KeyError` the text has quotes around it.
    return error.args[0] if isinstance(error, KeyError) and error.args else error


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _blob_id(text: str) -> pygit2.Oid:
    return pygit2.hash(text.encode("utf-8", "surrogateescape"))
