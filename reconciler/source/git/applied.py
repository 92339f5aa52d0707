"""The refs by which commits that were applied outlive force-push and gc, and whose each is.

Several daemons may follow one repository. What the last of them has applied is at one ref, with a
text beside it that says by whom; what each of the others has, at a ref of its own: an annotated
tag, whose message is that text, and whose time is when it was last said. A daemon is known by an
id that it keeps and by what it follows, since machines and directories are given other names.
Opened by `reconciler.source.git.repository`, for `reconciler.loop.applied_ref`.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

from reconciler.presence import is_there
from reconciler.source.git.loose import Loose
from reconciler.source.git.released import BLOB, TAG, CallError, ReleasedGit
from reconciler.source.git.repository_errors import RepositoryError
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
_TAGGED = re.compile(rb"object ([0-9a-f]{40})\n")
_TAGGED_AT = re.compile(rb"^tagger .*> (\d+) [+-]\d{4}$", re.MULTILINE)


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
    """The refs of applied commits in one repository, which are the only ones that we move.

    For one thread at a time; a disk that stands still holds up no other.
    """

    def __init__(self, git_dir: Path, common_dir: Path, loose: Loose) -> None:
        self._git = ReleasedGit(git_dir)
        self._loose = loose
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
        except (CallError, OSError) as error:
            raise RepositoryError(f"cannot move {APPLIED_REF}: {error}") from None

    def claim(self, commit: str, by: Applier) -> None:
        """Have what is this daemon's known as this process's. Raises `RepositoryError`."""
        try:
            if by.is_same(self._applier(self._target(_BY))):
                self._move(_BY, self._git.write(BLOB, _encoded(by.text)))
            elif self._target(by.ref) is not None:
                self._put(by, commit)
        except (CallError, OSError) as error:
            raise RepositoryError(f"cannot move {APPLIED_REF}: {error}") from None

    def altered(self, commit: str, by: Applier) -> str | None:
        """What has become of a commit that was marked or claimed; None where it is kept.

        Raises `TwinError` where another process has the id of this one since.
        """
        text = self._target(_BY)
        owner = self._applier(text)
        if owner is not None and by.is_same(owner):
            kept, name = self._target(APPLIED_REF), APPLIED_REF
        elif owner is not None or self._changes_hands(text):
            # Whoever takes it over has put ours into its own place before.
            owner, kept, name = *self._put_for(by), by.ref
        else:
            return f"{_BY} was deleted"
        if owner is not None and by.is_same(owner) and owner.run != by.run:
            raise TwinError(owner)
        if kept is None:
            return f"{name} was deleted"
        return None if kept == commit else f"{name} was moved to {kept[:12]}"

    def _put_for(self, by: Applier) -> tuple[Applier | None, str | None]:
        """Whose text is in a daemon's own place, and for which commit."""
        content = self._content(self._target(by.ref), TAG) or b""
        commit = _TAGGED.match(content)
        if commit is None:
            return None, None
        return _applier_of(_decoded(content.partition(b"\n\n")[2])), commit[1].decode()

    def _take_over(self, former: str | None, commit: str, by: Applier) -> None:
        """What was another's becomes ours, and whoever is killed on the way takes nobody's.

        A transaction of git moves refs one by one as well, once it has all locks. So the ref is
        nobody's while it moves, and each has its commit in its own place by then.
        """
        owner, last = self._applier(former), self._target(APPLIED_REF)
        if owner is not None and not by.is_same(owner) and last and self._git.has(last):
            self._put(owner, last)
        self._put(by, commit)
        self._move(_BY, self._git.write(BLOB, b""))
        self._move(APPLIED_REF, commit)
        self._move(_BY, self._git.write(BLOB, _encoded(by.text)))
        self._remove(by.ref)

    def renew(self, commit: str, by: Applier) -> None:
        """Say anew what is ours, and let go of those of daemons that are gone.

        Raises `RepositoryError`.
        """
        try:
            if not by.is_same(self._applier(self._target(_BY))):
                self._put(by, commit)
            self._forget_old()
        except (CallError, OSError) as error:
            raise RepositoryError(f"cannot move {by.ref}: {error}") from None

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
            listed = self._git.names(f"{_OF_OTHERS}*", _REFS_LOOKED_AT_MAX)
        except CallError:
            return []
        return [self._other(name) for name in listed]

    def _other(self, name: str) -> Applied:
        content = self._content(self._target(name), TAG)
        tagged_at = _TAGGED_AT.search(content) if content is not None else None
        if content is None or tagged_at is None:
            return Applied(name, None, 0.0)
        text = content.partition(b"\n\n")[2]
        return Applied(name, _applier_of(_decoded(text)), float(tagged_at[1]))

    def _changes_hands(self, blob: str | None) -> bool:
        return blob is not None and blob == _blob_id("")

    def _applier(self, blob: str | None) -> Applier | None:
        """Whose text this is; None as well where it is nobody's."""
        content = self._content(blob, BLOB)
        return _applier_of(_decoded(content)) if content is not None else None

    def _content(self, name: str | None, kind: int) -> bytes | None:
        """What an object of this kind has; None where there is none that can be read."""
        if name is None:
            return None
        try:
            self._loose.expect_whole(name)
            found = self._git.read(name, _TEXT_BYTES_MAX)
        except (CallError, RepositoryError):
            return None
        return found[1] if found is not None and found[0] == kind else None

    def _put(self, by: Applier, commit: str) -> None:
        """Have a commit in a daemon's own place. Raises `CallError` where it is not here."""
        if not self._git.has(commit):
            # A tag of what is nowhere would end each gc.
            raise CallError(f"commit {commit[:12]} is not here")
        name = by.ref.removeprefix("refs/")
        lines = (
            f"object {commit}",
            "type commit",
            f"tag {name}",
            f"tagger kakehi <> {int(time.time())} +0000",
            "",
            by.text,
        )
        self._move(by.ref, self._git.write(TAG, _encoded("\n".join(lines))))

    def _target(self, name: str) -> str | None:
        try:
            return self._git.target(name)
        except CallError:
            return None

    def _move(self, name: str, to: str) -> None:
        self._break_stale_lock(name)
        try:
            self._git.move(name, to)
        except CallError:
            lock = self._lock(name)
            if not is_there(lock):
                raise
            # libgit2 has no reason then.
            message = f"git holds {lock}, which is removed when it is {_LOCK_STALE_S:g} s old"
            raise CallError(message) from None

    def _remove(self, name: str) -> None:
        self._break_stale_lock(name)
        self._git.remove(name)

    def _lock(self, name: str) -> Path:
        return self._common_dir / f"{name}.lock"

    def _break_stale_lock(self, name: str) -> None:
        """A daemon that was killed while it moved its ref left the lock behind."""
        lock = self._lock(name)
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


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _blob_id(text: str) -> str:
    """What git calls a blob with this content."""
    content = _encoded(text)
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
