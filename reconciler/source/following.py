"""Which ref is followed: the one that `--ref` says, else the one of the last start, else HEAD's.

HEAD is asked once. From then on `git checkout` changes what people edit and not what is served:
neither while we run nor by a crash and a restart. Called by `reconciler.daemon` and, for the
warning, `reconciler.reporting.answers`.
"""

from __future__ import annotations

import json
from pathlib import Path

from reconciler import log
from reconciler.durable import replace_durably
from reconciler.source.repository import RepositoryError
from reconciler.source.source import Source

FILE_NAME = "followed.json"
_DETACHED = "HEAD"


class Following:
    """The memory of it, in the state directory."""

    def __init__(self, state_dir: Path, directory: Path, given: str | None) -> None:
        self._path = state_dir / FILE_NAME
        self._directory = str(directory)
        self._given = given
        self._kept = self._read()
        self.wanted = given or self._kept
        """What to follow; None: the branch that HEAD names."""

    def keep(self, source: Source) -> None:
        """Remembers the ref, once it is known."""
        try:
            ref = source.ref
        except RepositoryError:
            return
        # A misspelt one would be followed for ever by whoever starts again without naming it.
        if ref == self._kept or not _exists(source, ref):
            return
        self._kept = ref
        content = json.dumps({"directory": self._directory, "ref": ref})
        try:
            replace_durably(self._path, content.encode() + b"\n")
        except OSError as error:
            reason = error.strerror or error
            log.warning("a restart will ask HEAD which branch to follow", reason=reason)

    def write(self, source: Source) -> None:
        """Writes it anew, after the file was lost."""
        self._kept = None
        self.keep(source)

    def warning(self, source: Source) -> str | None:
        """What to say when HEAD is on another branch, and nobody said which one to follow."""
        if self._given is not None:
            return None
        try:
            followed, head = source.ref, source.repository.head_ref()
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

    def unknown(self, source: Source) -> str | None:
        """The ref that was asked for, if nobody has ever seen it; None if all is well."""
        if self._given is None or source.is_remote:
            return None
        try:
            ref = source.ref
        except RepositoryError:
            # The repository may come back; it is waited for.
            return None
        return None if ref == self._kept or _exists(source, ref) else self._given

    def _read(self) -> str | None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            ref, directory = found["ref"], found["directory"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("what was followed cannot be read, HEAD is asked", reason=error)
            return None
        # The memory of another repository says nothing about this one.
        return ref if directory == self._directory and isinstance(ref, str) else None


def _exists(source: Source, ref: str) -> bool:
    """Whether a ref was there, or comes with the first commit or fetch."""
    try:
        repository = source.repository
        may_come = source.is_remote or ref in (_DETACHED, repository.head_ref())
        return may_come or repository.has_ref(ref)
    except RepositoryError:
        return False
