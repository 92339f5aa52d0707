"""Which ref is followed: the one that `--ref` says, else the one of the last start, else HEAD's.

HEAD is asked once. From then on `git checkout` changes what people edit and not what is served:
neither while we run nor by a crash and a restart. Called by `reconciler.daemon` and, for the
warning, `reconciler.reporting.control.status`.
"""

from __future__ import annotations

import json
from pathlib import Path

from reconciler import log
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Source
from reconciler.storage.file.database import DamagedError, UnreadError
from reconciler.storage.kept.memory import Memory

NAME = "followed"
_DETACHED = "HEAD"


class Following:
    """The memory of it, in the state database."""

    def __init__(self, memory: Memory, directory: Path, given: str | None) -> None:
        self._memory = memory
        self._directory = str(directory)
        self._given = given
        # What is kept could not be read, so that it is not to be replaced.
        self._is_unread = False
        self._left: str | None = None
        self._kept = self._read()
        self.wanted = given or self._kept
        """What to follow; None: the branch that HEAD names."""

    def keep(self, source: Source) -> None:
        """Remembers the ref, once it is known and has a commit: a misspelled one never."""
        try:
            ref = source.ref
        except RepositoryError:
            return
        is_of_before = self._given is None and (self._is_unread or self._left is not None)
        if ref == self._kept or is_of_before or not source.is_there:
            return
        self._kept = ref
        content = json.dumps({"directory": self._directory, "ref": ref})
        try:
            self._memory.keep(NAME, content)
        except OSError as error:
            reason = error.strerror or error
            log.warning("a restart will ask HEAD which branch to follow", reason=reason)

    def write(self, source: Source) -> None:
        """Writes it anew, after it was lost; not over what could not be read at the start."""
        before = None
        if self._is_unread and self._given is None:
            before = self._read()
            if self._is_unread:
                return
        if before is not None and before != source.ref:
            self._left = before
            log.warning(self._told_left(before))
            return
        self._kept = None
        self.keep(source)

    def _told_left(self, before: str) -> str:
        return (
            f"{before} was followed before, which could not be read at the start: restart to "
            "follow it again"
        )

    def warning(self, source: Source) -> str | None:
        """What to say when HEAD is on another branch, and nobody said which one to follow."""
        if self._given is not None:
            return None
        if self._left is not None:
            return self._told_left(self._left)
        try:
            followed, head = source.ref, source.repository.refs.head()
        except RepositoryError:
            return None
        if followed == _DETACHED:
            return (
                "follows HEAD itself, which named no branch at the start: restart with --ref to "
                "follow one"
            )
        if head == _DETACHED:
            return (
                f"follows {source.shown_ref}; HEAD is detached, so that commits on it are not "
                f"followed: git switch {source.shown_ref}"
            )
        if head == followed:
            return None
        branch = head.removeprefix("refs/heads/")
        return (
            f"follows {source.shown_ref}; HEAD is on {branch}: "
            f"restart with --ref {branch} to follow it"
        )

    def _read(self) -> str | None:
        self._is_unread = False
        try:
            text = self._memory.kept(NAME)
            if text is None:
                return None
            found = json.loads(text)
            ref, directory = found["ref"], found["directory"]
        except (DamagedError, OSError, ValueError, TypeError, KeyError) as error:
            self._is_unread = isinstance(error, OSError | UnreadError)
            log.warning("what was followed cannot be read, HEAD is asked", reason=error)
            return None
        # The memory of another repository says nothing about this one.
        return ref if directory == self._directory and isinstance(ref, str) else None
