"""The source: which commit is wanted, and which configuration files differ from what runs.

Follows one ref of one repository. The newest commit always wins; a rewrite of history is just
another difference of two trees. Everything that a repository may do to us while traffic flows
(vanish, be rewritten, be packed) ends in a `RepositoryError`: the running state is held, and the
next look tries again. Called by `reconciler.loop.reconcile` and, for questions,
`reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.errors import UnreadableError
from reconciler.language.document import FILE_BYTES_MAX
from reconciler.materials.reading import MATERIAL_BYTES_MAX, Guesses, bounded, read_external
from reconciler.presence import denied_at, is_directory
from reconciler.source import left_out
from reconciler.source.git.applied import APPLIED_REF
from reconciler.source.git.commits import CommitNote
from reconciler.source.git.refs import followed_ref
from reconciler.source.git.repository import Repository
from reconciler.source.git.repository_errors import NoConfigurationError, RepositoryError
from reconciler.source.ignoring import Ignoring
from reconciler.source.named import not_in_commit
from reconciler.source.tree_diff import diff_trees, holds_configuration, ignoring_in
from reconciler.stalling import spending
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.secrecy import without_credentials
from schemas.record import record

# A look asks for the repository a dozen times; whether it was replaced is seen once.
_CURRENT_S = 0.01

# How far back the commits are looked for that a newer one has overtaken.
SUPERSEDED_MAX = 100


class UnfetchedError(RepositoryError):
    """Nothing has come from the remote yet; `reconciler.source.remote.fetching` tells why, once."""


@record
class Head:
    """The commit that is wanted, and the tree of the config directory in it."""

    commit: str
    tree: str


@dataclass(slots=True)
class Unsent:
    """Files of a working tree that differ and whose contents are not here, and who named one."""

    paths: frozenset[str] = frozenset()
    named: set[str] = field(default_factory=set)
    """Those that were asked for."""
    explains: bool = False
    """Whether it may be asked as well for files that are named and nowhere."""
    unreadable: Mapping[str, UnreadableError] = field(default_factory=dict)
    """Why there is nothing of some, by who was asked."""


@record
class Changed:
    """The files that differ: path → content, None for one that is gone; and what is left out."""

    files: dict[str, bytes | None]
    warnings: tuple[Diagnostic, ...]
    full: bool
    others: frozenset[str] = frozenset()
    """All files that differ: entities may name some, whatever else these are."""
    overlay: Mapping[str, bytes | None] = field(default_factory=dict)
    """Contents of such files that go before those of the tree; None is one that is gone."""
    unsent: Unsent = field(default_factory=Unsent)
    """Such files that nobody knows the contents of."""
    tree: str | None = None
    """The tree that the contents are of."""
    guesses: Guesses = field(default_factory=Guesses, compare=False)
    """What may have been meant by files that are named and not there."""

    @property
    def size(self) -> int:
        """How much there is to load, in bytes."""
        return sum(len(content) for content in self.files.values() if content is not None)


@record
class Compared:
    """The same without the contents: path → blob id, None for a file that is gone."""

    blobs: dict[str, bytes | None]
    warnings: tuple[Diagnostic, ...]
    full: bool
    others: frozenset[str]


class Source:
    """One followed ref. Opens the repository when it is first needed, and again when replaced."""

    def __init__(self, directory: Path, ref: str | None, remote: str | None = None) -> None:
        """With `remote`, the branch is not ours but the one that it brings."""
        self.directory = directory
        self._wanted_ref = ref
        self._remote = remote
        self._fetch_problem: str | None = None
        self._stalled: str | None = None
        self._ref: str | None = None
        self._repository: Repository | None = None
        self._checked_at = 0.0

    @property
    def fetch_problem(self) -> str | None:
        """Why the remote cannot be reached; what was fetched before is followed meanwhile."""
        return self._fetch_problem

    def fetched(self, problem: str | None) -> None:
        """What has become of the last attempt to fetch, by `reconciler.source.remote.fetching`."""
        self._fetch_problem = problem

    def probed(self, stalled: str | None) -> None:
        """Whether the repository may be touched now; see `reconciler.source.probing`."""
        self._stalled = stalled

    @property
    def is_stalled(self) -> bool:
        """Whether the repository did not answer when it was last asked."""
        return self._stalled is not None

    @property
    def repository(self) -> Repository:
        """The open repository. Raises `RepositoryError`."""
        if self._stalled is not None:
            raise RepositoryError(self._stalled)
        now = time.monotonic()
        if now - self._checked_at > _CURRENT_S:
            self._checked_at = now
            if self._repository is not None and not self._repository.is_current():
                self._repository = None
        if self._repository is None:
            is_here = is_directory(self.directory) or denied_at(self.directory) is not None
            if not is_here and not self._was_opened:
                raise RepositoryError(f"{self.directory} is not a directory")
            self._repository = Repository(self.directory)
        return self._repository

    @property
    def opened(self) -> Repository:
        """The repository that a look has opened, asked of nobody. Raises `RepositoryError`."""
        if self._stalled is None and self._repository is not None:
            return self._repository
        return self.repository

    @property
    def _was_opened(self) -> bool:
        # A commit may remove the directory from the working tree while we follow.
        return self._ref is not None

    @property
    def ref(self) -> str:
        """The full name of the followed ref. Raises `RepositoryError` before it is known."""
        if self._ref is None:
            repository = self.repository
            wanted = self._wanted_ref
            self._ref = repository.refs.full(wanted) if wanted else repository.refs.head()
        return self._ref

    def check_ref(self) -> None:
        """See at the start whether what shall be followed is there. Raises `RepositoryError`.

        A branch that somebody has yet to commit to is waited for, and one of a remote is fetched.
        """
        ref = self.ref
        if self._remote is None and not self.repository.refs.is_awaited(ref):
            self.repository.refs.resolve(ref)

    @property
    def is_there(self) -> bool:
        """Whether the followed ref has a commit."""
        try:
            self.head()
        except NoConfigurationError:
            return True
        except RepositoryError:
            return False
        return True

    @property
    def was_applied(self) -> bool:
        """Whether the repository knows of a commit that was applied; never raises."""
        try:
            return self.repository.refs.has(APPLIED_REF)
        except RepositoryError:
            return False

    @property
    def is_remote(self) -> bool:
        """Whether commits are fetched, so that more may come than are here."""
        return self._remote is not None

    @property
    def branch(self) -> str:
        """The branch of the remote. Raises `RepositoryError` when HEAD names none."""
        ref = self.ref
        if not ref.startswith("refs/heads/"):
            raise RepositoryError(f"{ref} is no branch: name the remote's branch with --ref")
        return ref

    @property
    def shown_ref(self) -> str:
        """The ref as people say it, for status; never raises."""
        try:
            name = self.ref
        except RepositoryError:
            name = self._wanted_ref or "HEAD"
        return name.removeprefix("refs/heads/")

    def head(self) -> Head:
        """The wanted commit, now. Raises `RepositoryError`."""
        self._checked_at = 0.0
        repository = self.repository
        if self._remote is None:
            commit = repository.refs.resolve(self.ref)
        else:
            commit = self._fetched(repository, self._remote)
        return Head(commit, repository.commits.config_tree(commit))

    def probe(self) -> None:
        """Read what a look begins with, in a thread. Raises `OSError`.

        Not by libgit2, which would keep the whole interpreter waiting with it.
        """
        repository = self._repository
        if repository is None:
            self._probe_way()
            return
        for path in (repository.git_dir / "HEAD", repository.common_dir / (self._ref or "HEAD")):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as opened:
                opened.read(1)
        # They may lie on a disk of their own.
        (repository.common_dir / "objects").stat()

    def _probe_way(self) -> None:
        """Read what is looked for where no repository has been opened yet. Raises `OSError`."""
        self.directory.stat()
        for folder in (self.directory, *self.directory.parents):
            for head in (folder / ".git" / "HEAD", folder / "HEAD"):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    with head.open("rb") as opened:
                        opened.read(1)
                    return

    @property
    def follows(self) -> str:
        """The ref that commits are taken from. Raises `RepositoryError` before it is known."""
        return self.ref if self._remote is None else followed_ref(self._remote, self.branch)

    def _fetched(self, repository: Repository, remote: str) -> str:
        ref = self.follows
        if not repository.refs.has(ref):
            waiting = f"nothing was fetched from {without_credentials(remote)} yet"
            raise UnfetchedError(self._fetch_problem or waiting)
        return repository.refs.resolve(ref)

    def head_of(self, spec: str) -> Head:
        """The commit that a user names. Raises `RepositoryError`."""
        commit = self.repository.refs.find_commit(spec)
        return Head(commit, self.repository.commits.config_tree(commit))

    def file_of(self, commit: str, path: str) -> bytes | None:
        """A configuration file of a commit. Raises `RepositoryError`."""
        objects = self.repository.objects
        return objects.file_at(self.head_of(commit).tree, path, FILE_BYTES_MAX)

    def changed(self, base: str | None, tree: str, at_most: int | None = None) -> Changed:
        """What differs between two trees; everything, when the base cannot be read any more.

        In a hurry, it raises `HurriedError` behind what has taken too long. Raises
        `RepositoryError`; `NoConfigurationError` when the tree has none at all;
        `ManyFilesError` before anything is read, when more differ than `at_most`.
        """
        if base == tree:
            return Changed({}, (), full=False, tree=tree)
        found = self.compared(base, tree, at_most)
        files = {path: self.content(oid) for path, oid in found.blobs.items()}
        return Changed(files, found.warnings, found.full, found.others, tree=tree)

    def compared(self, base: str | None, tree: str, at_most: int | None = None) -> Compared:
        """What `changed` does, without reading what the files contain."""
        repository = self.repository
        new = bytes.fromhex(tree)
        full = base is None
        ignoring = ignoring_in(repository.objects, new)
        try:
            old = bytes.fromhex(base) if base else None
            if old is not None and ignoring_in(repository.objects, old) != ignoring:
                # What was left out before may be read now, and the other way round.
                old, full = None, True
            diff = diff_trees(repository.objects.read_tree, old, new, at_most)
        except RepositoryError:
            diff = diff_trees(repository.objects.read_tree, None, new, at_most)
            full = True
        blobs = {
            path: oid for path, oid in sorted(diff.changed.items()) if not ignoring.covers(path)
        }
        if not any(blobs.values()):
            self._require_configuration(new, ignoring)
        named = {path: why for path, why in diff.skipped.items() if not ignoring.covers(path)}
        skipped = left_out.confirmed(named, lambda path, most: self._read(diff.json[path], most))
        # Any file may be one that an entity names, also one that could be configuration.
        others = frozenset(diff.others) | diff.changed.keys()
        return Compared(blobs, left_out.warnings(skipped), full, others)

    def read_file(self, changed: Changed, path: str) -> bytes:
        """What an entity means by a path: a file of the tree, or (slash first) of the machine.

        Raises `UnreadableError`; `RepositoryError` when the tree cannot be read now, which is no
        fault of the commit.
        """
        if path.startswith("/"):
            return read_external(path)
        if path in changed.unsent.unreadable:
            raise changed.unsent.unreadable[path]
        if path in changed.unsent.paths:
            changed.unsent.named.add(path)
            raise UnreadableError("its content was not sent")
        if path in changed.overlay:
            content = changed.overlay[path]
        else:
            content = (
                self.repository.objects.file_at(changed.tree, path, MATERIAL_BYTES_MAX)
                if changed.tree
                else None
            )
        if content is None:
            if changed.unsent.explains:
                changed.unsent.named.add(path)
            raise not_in_commit(
                self.repository, changed.tree, path, changed.guesses, changed.overlay
            )
        return bounded(content)

    def with_naming(self, changed: Changed, paths: set[str]) -> Changed:
        """The same with further configuration files, whose entities name what has changed."""
        missing = paths - changed.files.keys()
        if not missing or changed.tree is None:
            return changed
        files = dict(changed.files)
        for path in missing:
            with spending():
                files[path] = self.repository.objects.file_at(changed.tree, path, FILE_BYTES_MAX)
        return replace(changed, files=files)

    def content(self, oid: bytes | None) -> bytes | None:
        """What a file contains. Raises `RepositoryError`."""
        # What is too large is refused by its length alone.
        return None if oid is None else self._read(oid, FILE_BYTES_MAX)

    def _read(self, oid: bytes, at_most: int) -> bytes:
        with spending():
            return self.repository.objects.read_blob(oid, at_most)

    def _require_configuration(self, tree: bytes, ignoring: Ignoring) -> None:
        if not holds_configuration(self.repository.objects.read_tree, tree, ignoring):
            where = self.repository.prefix or "the repository"
            message = f"the commit holds no configuration (no *.yaml file in {where})"
            raise NoConfigurationError(message)

    def superseded(self, base: str | None, commit: str) -> list[str]:
        """The commits between base and commit that were overtaken, oldest first."""
        if base is None or base == commit:
            return []
        between: list[str] = []
        for parent in self.repository.commits.first_parents(commit):
            if parent == base:
                return between[::-1]
            if len(between) == SUPERSEDED_MAX:
                break
            between.append(parent)
        return []

    def note(self, commit: str) -> CommitNote:
        """Author and subject, as far as they can be read."""
        try:
            return self.repository.commits.note(commit)
        except RepositoryError:
            return CommitNote("", "")

    def message(self, commit: str) -> str:
        """The commit's message, as far as it can be read."""
        try:
            return self.repository.commits.message(commit)
        except RepositoryError:
            return ""

    def is_descendant(self, commit: str, ancestor: str) -> bool:
        """Whether `commit` is `ancestor` or comes after it."""
        if commit == ancestor:
            return True
        try:
            return self.repository.commits.is_descendant(commit, ancestor)
        except RepositoryError:
            return False

    def watched(self) -> tuple[list[Path], list[Path]]:
        """(directories to watch alone, directories to watch with all below them)."""
        repository = self.repository
        alone = [repository.common_dir]
        if repository.git_dir != repository.common_dir:
            alone.append(repository.git_dir)
        alone += [folder for folder in repository.links if folder not in alone]
        return alone, [repository.common_dir / "refs"]
