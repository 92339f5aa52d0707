"""The ref of the commit that was applied last: what it points to, git's gc leaves alone.

Moved behind the commit record, while workers swap, and before anybody is told that the commit is
applied: whoever loses the state directory and all workers right afterwards, comes back to it. A
thread moves it, since the disk may stand still, and is waited for a second and no longer. Where it
cannot be moved, or not in time, `status` says so, and every look tries again. When
somebody has moved our refs, the next look sees whether they are as they were left: who mirrors a
repository deletes what is not in his own. Made by
`reconciler.daemon`; called by `reconciler.transaction.runner` and `reconciler.loop.reconcile`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reconciler import log
from reconciler.own_threads import OwnThread
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.applied import (
    APPLIED_REF,
    Applied,
    AppliedCommits,
    Applier,
    TwinError,
)
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Source
from reconciler.storage.file.database import DamagedError, UnreadError
from reconciler.storage.kept.memory import Memory

NAME = "applier"
_RENEW_S = 86_400.0
# The watch of the refs tells sooner.
_SEEN_EVERY_S = 10.0
MOVED_WITHIN_S = 1.0
"""So long a commit waits for it before it is told to be applied; git takes a millisecond."""
# Each costs a walk through the history.
_ASKED_MAX = 8


def kept_id(memory: Memory) -> str | None:
    """By what the repository knows us; None where that is lost, or this is a first start."""
    try:
        return memory.kept(NAME)
    except (DamagedError, OSError):
        return None


def place(state_dir: Path) -> str:
    """How people know us."""
    return f"{os.uname().nodename}:{state_dir.absolute()}"


def newest_on(source: Source, commit: str | None = None) -> Applied | None:
    """What was applied last by whoever followed what we follow, and lies below a commit of it.

    Raises `RepositoryError`. The newest commit, where none is named.
    """
    head = commit or source.head().commit
    best: tuple[str, Applied] | None = None
    for each in source.repository.applied.on(source.follows)[:_ASKED_MAX]:
        try:
            found = source.head_of(each.ref).commit
        except RepositoryError:
            continue
        # On one line of history, the later one.
        is_later = best is None or (best[0] != found and source.is_descendant(found, best[0]))
        if is_later and source.is_descendant(head, found):
            best = found, each
    return best[1] if best else None


class AppliedRef:
    """Owns `refs/kakehi/applied`, and says whose it is."""

    def __init__(
        self,
        source: Source,
        outcomes: Outcomes,
        memory: Memory,
        state_dir: Path,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`tell` keeps a sentence for `status`."""
        self._tell = tell
        self._run = secrets.token_hex(4)
        self._source = source
        self._memory = memory
        self._place = place(state_dir)
        self._id = self._known_id()
        self._outcomes = outcomes
        self._marked: str | None = None
        self._is_claimed = True
        """Whether it is known as this process's, or nothing was marked yet."""
        self._has_claimed = False
        self._doubted, self._seen_at = False, 0.0
        self._wanted: str | None = None
        self._renew_at = 0.0
        self._to_resume: str | None = None
        """What a start has found to run, while the repository cannot be asked."""
        self._older: str | None = None
        """What a start has found to run, where the ref has what was applied after it."""
        self._thread = OwnThread("applied ref")
        self._moving: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        """When the thread was asked for what it is at."""
        self._told_at = 0.0
        """When what is wanted is told to be applied, wherever the ref points."""

    def _known_id(self) -> str:
        fresh = secrets.token_hex(16)
        try:
            known = self._memory.kept(NAME)
        except (OSError, UnreadError):
            # It is not to be replaced, and comes back with the disk.
            return fresh
        except DamagedError:
            known = None
        if known is None:
            self._id = fresh
            self.write()
        return known or fresh

    def write(self) -> None:
        """Keep the id, also after it was lost with the state directory."""
        try:
            self._memory.keep(NAME, self._id)
        except OSError as error:
            reason = error.strerror or error
            log.warning("a restart will not know what it has applied itself", reason=reason)

    @property
    def _by(self) -> Applier:
        return Applier(self._id, self._source.follows, self._place, self._run)

    def resume(self, commit: str | None) -> None:
        """Move it to what a start has found to run, unless it is older than what the ref has.

        A daemon that was killed behind its commit record has left that to be done.
        """
        try:
            ref = self._source.repository.applied.by(self._by)
            if commit is not None and ref is not None:
                applied = self._source.head_of(ref).commit
                if applied == commit:
                    self._wanted = self._marked = commit
                    # Who has our id from a copy of our state finds out by that.
                    self._is_claimed = False
                    return
                if self._source.is_descendant(applied, commit):
                    self._older = commit
                    return
        except RepositoryError:
            # Told by the looks, which need it as well.
            self._to_resume = commit
            return
        self.mark(commit)

    def last(self, head: str) -> Applied | None:
        """What was applied last of what lies below a commit: by this daemon, or as it may be.

        The state may be lost, and with it by what we know our own. Raises `RepositoryError`.
        """
        by = self._by
        own = self._source.repository.applied.by(by)
        return newest_on(self._source, head) if own is None else Applied(own, by, 0.0)

    def is_older(self, commit: str | None) -> bool:
        """Whether this is what a start has found to run, and the ref has something later."""
        self._resume_again()
        return commit is not None and commit == self._older

    def recorded(self, commit: str | None) -> None:
        """Mark what a commit record names, unless that is older than what the ref has.

        Files outside were taken over by it then: nobody has asked for the commit.
        """
        if not self.is_older(commit):
            self.mark(commit)

    def mark(self, commit: str | None) -> None:
        """Have the ref point to a commit that runs; nothing is done where it does."""
        self._older = None
        if commit != self._wanted:
            self._wanted, self._told_at = commit, time.monotonic() + MOVED_WITHIN_S
        self._to_resume = None
        self._begin()

    def doubt(self) -> None:
        """Somebody has moved one of our refs, which may have been us: the next look sees."""
        self._doubted = True

    @property
    def _is_doubted(self) -> bool:
        is_due = self._doubted or time.monotonic() >= self._seen_at + _SEEN_EVERY_S
        return self._has_claimed and is_due

    @property
    def is_settled(self) -> bool:
        """Whether what is wanted may be told: it points there, or is not waited for any longer."""
        is_over = self._moving is None or time.monotonic() >= self._told_at
        return self._wanted == self._marked or is_over

    async def settled(self) -> None:
        """Return when that is so."""
        if self._moving is not None and not self.is_settled:
            left = max(0.0, self._told_at - time.monotonic())
            await asyncio.wait([self._moving], timeout=left)
        self._look_at_the_clock()

    def try_again(self) -> None:
        """Do what could not be done before, or was undone; say now and then anew whose it is."""
        self._resume_again()
        self._begin()
        self._look_at_the_clock()

    def _resume_again(self) -> None:
        if self._to_resume is not None:
            commit, self._to_resume = self._to_resume, None
            self.resume(commit)

    def _look_at_the_clock(self) -> None:
        is_moved = self._wanted == self._marked
        silent_at = self._asked_at + MOVED_WITHIN_S if is_moved else self._told_at
        if self._moving is not None and time.monotonic() >= silent_at:
            self._outcomes.marked(
                f"cannot move {APPLIED_REF}: the repository has not answered in "
                f"{MOVED_WITHIN_S:g} s: its file system hangs"
            )

    def _begin(self) -> None:
        # Where nothing is to be done it is nothing of ours whether the repository is there.
        is_said = self._is_claimed and time.monotonic() < self._renew_at
        is_as_it_was = is_said and not self._is_doubted
        if self._wanted is None or (self._wanted == self._marked and is_as_it_was):
            return
        if self._moving is None:
            self._asked_at = time.monotonic()
            self._moving = asyncio.get_running_loop().create_task(self._move())

    async def _move(self) -> None:
        try:
            applied = self._source.opened.applied_apart
        except RepositoryError as error:
            self._outcomes.marked(f"cannot move {APPLIED_REF}: {error}")
            self._moving = None
            return
        try:
            if self._wanted == self._marked:
                await self._say(applied)
            # What is wanted may be another by then.
            while self._wanted is not None and self._wanted != self._marked:
                await self._mark(applied, self._wanted)
        except RepositoryError as error:
            self._outcomes.marked(str(error))
        except RuntimeError as error:
            # The system has no thread to give.
            self._outcomes.marked(f"cannot move {APPLIED_REF}: {error}")
        else:
            self._outcomes.marked(None)
        finally:
            self._moving = None

    async def _say(self, applied: AppliedCommits) -> None:
        """Say whose it is: that it is this process's, or that it is still ours; or see it."""
        self._asked_at = time.monotonic()
        if not self._is_claimed:
            await self._thread.run(partial(applied.claim, self._marked or "", self._by))
            self._is_claimed = self._has_claimed = True
        elif self._is_doubted:
            await self._see(applied, self._marked or "")
        else:
            await self._thread.run(partial(applied.renew, self._marked or "", self._by))
            self._renew_at = time.monotonic() + _RENEW_S

    async def _see(self, applied: AppliedCommits, commit: str) -> None:
        """See whether it is as it was left, and have it so again."""
        self._doubted, self._seen_at = False, time.monotonic()
        try:
            altered = await self._thread.run(partial(applied.altered, commit, self._by))
        except TwinError as error:
            self._part_from(error.twin)
        else:
            if altered is None:
                return
            # Two daemons that apply at the same moment may miss each other: that is nobody's fault.
            is_own = altered.startswith(self._by.ref)
            tell, said = (
                (log.info, "the applied commit has a ref again")
                if is_own
                else (log.warning, "the applied commit was not kept alive, it is again")
            )
            tell(said, commit=commit[:12], reason=altered)
        self._marked, self._told_at = None, time.monotonic() + MOVED_WITHIN_S

    async def _mark(self, applied: AppliedCommits, commit: str) -> None:
        self._asked_at = time.monotonic()
        mark = partial(applied.mark, commit, self._by, again=self._has_claimed)
        try:
            self._is_claimed = await self._thread.run(mark)
        except TwinError as error:
            self._part_from(error.twin)
            return
        self._marked = commit
        self._has_claimed = self._has_claimed or self._is_claimed

    def _part_from(self, twin: Applier) -> None:
        """Have an id of our own, where the state directory of one of us is the other's copy."""
        self._id, self._has_claimed = secrets.token_hex(16), False
        self.write()
        log.warning("another daemon has our id, this one has another now", other=twin.place)
        self._tell(
            f"the daemon of {twin.place} has the id of this one, by which {APPLIED_REF} is known "
            "as its own: one state directory is a copy of the other. This one has an id of its own "
            "from now on"
        )
