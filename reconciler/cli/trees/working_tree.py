"""Looks at a config directory with git's eyes: what was edited since a commit, what it ignores.

`plan` sends the edited files to the daemon; `validate` looks for keys in what is committed.
"""

import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path

from reconciler.cli.exits import CommandError
from reconciler.cli.trees import files, git_index, staged, unstaged
from reconciler.cli.trees.cleaned import cleaned
from reconciler.libgit2 import pygit2
from reconciler.presence import is_directory, is_there
from reconciler.source import left_out as rules
from reconciler.source.ignoring import NAME, NOTHING, Ignoring, parse
from schemas.entities.diagnostic import Diagnostic
from schemas.record import record

FILTERED_MAX = 1000
"""Of so many files that differ it is looked up whether git changes them."""
IGNORED_MAX = 100_000
"""So many files of a folder that git ignores are looked at for configuration."""
NAMED_MAX = 5
"""So many files are named that no commit has."""


@record
class Differing:
    """The files of the config directory that a commit has not, or has with another content."""

    edited: list[str]
    deleted: list[str]
    untracked: list[str]
    """Git does not know them: `git commit -a` would leave them out."""
    filtered: dict[str, str]
    """Those that a program changes when they are committed, by the filter's name."""

    def sentence(self, than: str) -> str | None:
        """Say what is not in a commit; None: it has all."""
        named = [
            *self.edited,
            *(f"{path} (deleted)" for path in self.deleted),
            *(f"{path} (untracked)" for path in self.untracked),
        ]
        if not named:
            return None
        files = "1 file differs" if len(named) == 1 else f"{len(named)} files differ"
        more = ", …" if len(named) > NAMED_MAX else ""
        return f"{files} from {than}: {', '.join(named[:NAMED_MAX])}{more}"

    def to_json(self) -> dict[str, list[str]]:
        """Return the form of `plan --json`."""
        return {"edited": self.edited, "deleted": self.deleted, "untracked": self.untracked}


class WorkingTree:
    """The config directory in a working tree, as git sees it."""

    def __init__(self, directory: Path) -> None:
        self._opened = lambda: files.open_repository(directory).git
        repository = files.open_repository(directory)
        self._git = repository.git
        if self._git.is_bare:
            raise CommandError(
                f"{directory} is a bare repository and has no working tree",
                "name a clone of it, or a commit with --ref",
            )
        self._objects = repository.common_dir / "objects"
        self._stored = repository.objects
        self.directory = directory.resolve()
        self._prefix = f"{repository.prefix}/" if repository.prefix else ""

    def has(self, commit: str) -> bool:
        """Tell whether this clone has a commit."""
        return commit in self._git

    def committable(self, left_out: dict[str, str] | None = None) -> Iterator[str]:
        """Return the path of every file, hidden or not, that a commit of this tree may have.

        What looks like configuration and is ignored, or a link, is put into `left_out`.
        """
        links: dict[str, str] = {}
        skipped = {} if left_out is None else left_out
        for path in files.all_files(
            self.directory, hidden=True, left_out=links, ignored=self._ignores
        ):
            if not self.never_commits(path):
                yield path
            elif files.is_configuration(path) and not self.ignoring.covers(path):
                skipped[path] = rules.IGNORED
        for path, reason in links.items():
            is_hidden = any(part.startswith(".") for part in Path(path).parts)
            if not is_hidden and not self.ignoring.covers(path):
                skipped[path] = reason
        yield from sorted(self._kept)

    def content(self, path: str, most: int = files.FILE_BYTES_MAX) -> bytes | None:
        """Return what a commit of this tree would have of a file; None: nothing."""
        on_disk = self.directory / path
        if on_disk.is_file() and not on_disk.is_symlink():
            return self.cleaned(path, files.read(on_disk, most))
        return self.content_kept(path)

    def cleaned(self, path: str, content: bytes) -> bytes:
        """Return the content of a file as git would commit it."""
        return cleaned(self._git, self._prefix + path, content)

    @cached_property
    def ignoring(self) -> Ignoring:
        """What the `.kakehiignore` of a commit of this tree would leave out."""
        return NOTHING if self.never_commits(NAME) else parse(self.content(NAME) or b"")

    def ignoring_in_vain(self) -> dict[str, str]:
        """Return a `.kakehiignore` that leaves nothing out, and why, as `left_out` has it."""
        is_here = files.is_plain(self.directory / NAME)
        return {NAME: rules.IGNORED} if is_here and self.never_commits(NAME) else {}

    def is_ignoring_untracked(self) -> bool:
        """Tell whether a `.kakehiignore` lies here that git does not know, and would take."""
        is_here = files.is_plain(self.directory / NAME) and not self._ignores(NAME)
        return is_here and os.fsencode(self._prefix + NAME) not in self._index

    @cached_property
    def _known(self) -> git_index.Known:
        return git_index.read(self._git)

    @property
    def _index(self) -> pygit2.Index:
        return self._known.index

    @cached_property
    def _kept(self) -> dict[str, bytes]:
        """The files that a commit of this working tree has and the tree has not: path → blob id."""
        try:
            left_out = self._known.left_out
        except CommandError:
            # What lies here can be validated without an index.
            return {}
        inside = ((os.fsdecode(raw), oid) for raw, oid in left_out.items())
        return {
            path.removeprefix(self._prefix): oid
            for path, oid in inside
            if path.startswith(self._prefix) and not is_there(Path(self._git.workdir, path))
        }

    def kept(self) -> Iterator[tuple[str, bytes]]:
        """Return path and content of every file that a sparse checkout leaves where it is."""
        for path in sorted(self._kept):
            yield path, self.content_kept(path) or b""

    def content_kept(self, path: str) -> bytes | None:
        """Return the content of such a file; None where there is none of that name."""
        oid = self._kept.get(path)
        return None if oid is None else self._stored.read_blob(oid, files.FILE_BYTES_MAX)

    def wanted(
        self, left_out: dict[str, str] | None = None, beside: set[str] | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Return path and content of every configuration file.

        What looks like configuration and is none is put into `left_out`, with the reason; all other
        files are put into `beside`.
        """
        ignoring = self.ignoring
        if left_out is not None:
            left_out |= self.ignoring_in_vain()
        for path in self.committable(left_out):
            raw = os.fsencode(path)
            is_read = files.is_configuration(path) and not ignoring.covers(path)
            reason = None if ignoring.covers(path) else rules.reason(raw)
            if reason is not None:
                if left_out is not None:
                    left_out[rules.shown(raw)] = reason
            elif is_read:
                yield path, self.content(path) or b""
            elif beside is not None:
                beside.add(path)

    def never_commits(self, path: str) -> bool:
        """Tell whether git leaves a file out: it is ignored, and was not added all the same."""
        if not self._ignores(path):
            return False
        try:
            return os.fsencode(self._prefix + path) not in self._index
        except CommandError:
            # Without an index git knows of no file.
            return True

    def _ignores(self, path: str) -> bool:
        try:
            return self._git.path_is_ignored(self._prefix + path)
        except UnicodeEncodeError:
            # It cannot be asked for names that are not UTF-8; those are left out for that.
            return False

    @property
    def size(self) -> int:
        """How many files git knows."""
        return len(self._index)

    def differing(self, commit: str, edited: dict[str, bytes | None] | None = None) -> Differing:
        """Return how the working tree differs from a commit; `edited`: what `edited_since` said."""
        found = self.edited_since(commit) if edited is None else edited
        found = self._with_what_ignores(commit, found)
        git, index = self._known.git, self._index
        known_ones = {path for path in found if os.fsencode(self._prefix + path) in index}
        there = [path for path, content in found.items() if content is not None]
        looked_at = there[:FILTERED_MAX]
        filters = {path: git.get_attr(self._prefix + path, "filter") for path in looked_at}
        return Differing(
            edited=[path for path in there if path in known_ones],
            deleted=[path for path in found if found[path] is None],
            untracked=[path for path in there if path not in known_ones],
            filtered={path: name for path, name in filters.items() if isinstance(name, str)},
        )

    def edited_since(
        self, commit: str, left_out: dict[str, str] | None = None, beside: set[str] | None = None
    ) -> dict[str, bytes | None]:
        """Return the configuration files that differ from those of a commit; None: it is gone.

        What was edited, looks like configuration and is none is put into `left_out`; other files
        that may differ are put into `beside`.
        """
        tree = self._stored.tree(str(self._stored.commit_of(commit).tree_id))
        # First what reads the index beside us: what is ignored asks the index as well.
        candidates = sorted(self._candidates(tree).items())
        ignoring = self.ignoring
        if left_out is not None:
            left_out |= self.ignoring_in_vain()
        edited: dict[str, bytes | None] = {}
        for path, is_ignored in candidates:
            name = path.removeprefix(self._prefix)
            if not path.startswith(self._prefix):
                continue
            on_disk = self.directory / name
            reason = _reason(on_disk, name, is_ignored=is_ignored)
            if reason is not None and left_out is not None and not ignoring.covers(name):
                left_out[rules.shown(os.fsencode(name))] = reason
            is_beside = not files.is_configuration(name) or ignoring.covers(name)
            if is_beside and beside is not None and not is_ignored:
                beside.add(name)
            if not files.is_configuration(name):
                continue
            is_read = reason is None and not is_ignored
            content = self.content(name) if is_read else self.content_kept(name)
            if content != self._content(tree, path):
                edited[name] = content
        return self._with_ignored(tree, edited)

    def _with_what_ignores(
        self, commit: str, edited: dict[str, bytes | None]
    ) -> dict[str, bytes | None]:
        """Add an edited `.kakehiignore`; what only it brings in or leaves out was not edited."""
        ignoring = None if self.never_commits(NAME) else self.content(NAME)
        if not (self.differs(commit, NAME, ignoring) if commit else ignoring):
            return edited
        found = {
            path: self.content(path) if self.ignoring.covers(path) else content
            for path, content in edited.items()
        }
        found[NAME] = ignoring
        return {
            path: found[path]
            for path in sorted(found)
            if not commit or self.differs(commit, path, found[path])
        }

    def differs(self, commit: str, path: str, content: bytes | None) -> bool:
        """Tell whether a commit has another content of a file."""
        tree = self._stored.tree(str(self._stored.commit_of(commit).tree_id))
        return content != self._content(tree, self._prefix + path)

    def _content(self, tree: pygit2.Tree, path: str) -> bytes | None:
        return self._stored.file_at(str(tree.id), path, files.FILE_BYTES_MAX)

    def _with_ignored(
        self, tree: pygit2.Tree, edited: dict[str, bytes | None]
    ) -> dict[str, bytes | None]:
        """Leave out what `.kakehiignore` does; one that was edited changes what is read."""
        content = self._content(tree, f"{self._prefix}{NAME}")
        before, now = parse(content or b""), self.ignoring
        found = {
            path: each
            for path, each in edited.items()
            if not (files.is_configuration(path) and now.covers(path))
        }
        if before == now:
            return found
        there = files.of_working_tree(self.directory)
        found |= {path: each for path, each in there if before.covers(path)}
        for entry in self._index:
            path = entry.path.removeprefix(self._prefix)
            is_ours = entry.path.startswith(self._prefix) and files.is_configuration(path)
            if is_ours and now.covers(path) and not before.covers(path):
                found[path] = None
        return found

    def _candidates(self, tree: pygit2.Tree) -> dict[str, bool]:
        """Return the paths that may differ, by the index, and whether git ignores them.

        The index knows from a file's times and size that nobody touched it, so that a hundred
        thousand files are not read again. A folder that cannot be read git takes for an empty one,
        silently: those with files of which it misses some, and those that it does not know, are
        looked at. Raises `OSError` for one.
        """
        try:
            threads = unstaged.threads_for(self._git)
            deltas = unstaged.deltas(lambda: self._known, self._opened, tree, threads)
            index = self._index
            added = staged.differing(index, self._objects, tree)
            if added is None:
                deltas += index.diff_to_tree(tree).deltas
        except pygit2.GitError as error:
            raise self._unreadable(error) from None
        found = dict.fromkeys(map(os.fsdecode, added or ()), False)
        for delta in deltas:
            if delta.status == pygit2.enums.DeltaStatus.DELETED:
                if os.fsdecode(delta.old_file.raw_path).removeprefix(self._prefix) in self._kept:
                    continue
                self._expect_searchable(delta.old_file.raw_path)
            is_ignored = delta.status == pygit2.enums.DeltaStatus.IGNORED
            for raw in {delta.old_file.raw_path, delta.new_file.raw_path}:
                path = os.fsdecode(raw)
                if path.endswith("/"):
                    found |= self._below(path)
                else:
                    found[path] = is_ignored
        return found

    def _expect_searchable(self, raw: bytes) -> None:
        """Raise OSError when a file that git misses may lie where nobody can look."""
        path = Path(self._git.workdir, os.fsdecode(raw))
        if path.is_relative_to(self.directory):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.lstat()
                next(path.parent.iterdir(), None)

    def _below(self, folder: str) -> dict[str, bool]:
        """Return the same for a folder that git does not know: its files, or what stands for it."""
        top = Path(self._git.workdir)
        name = folder.removesuffix("/")
        place = Path(top, name)
        if not folder.startswith(self._prefix) and not self._prefix.startswith(folder):
            return {}
        if any(part.startswith(".") for part in Path(name.removeprefix(self._prefix)).parts):
            return {name: False}
        if self._git.path_is_ignored(folder):
            return {name: True, **self._ignored_below(place)}
        if place.is_symlink() or is_there(place / ".git"):
            return {name: False}
        found: dict[str, bool] = {}
        for each in place.iterdir():
            path = each.relative_to(top).as_posix()
            if each.is_dir() and not each.is_symlink():
                found |= self._below(f"{path}/")
            else:
                found[path] = self._ignores(path.removeprefix(self._prefix))
        return found

    def _ignored_below(self, folder: Path) -> dict[str, bool]:
        """Return what looks like configuration in a folder that git ignores as a whole."""
        if not is_directory(folder) or folder.is_symlink():
            return {}
        links: dict[str, str] = {}
        # Where nobody may look there is nothing to be told.
        with contextlib.suppress(OSError):
            there = files.all_files(folder, left_out=links, ignored=lambda _: True)
            found = [path for path in islice(there, IGNORED_MAX) if files.is_configuration(path)]
            begins = folder.relative_to(self._git.workdir).as_posix()
            return {f"{begins}/{path}": True for path in (*found, *links)}
        return {}

    def _unreadable(self, error: pygit2.GitError) -> Exception:
        """Return why git failed, which names a file that cannot be read otherwise than we do."""
        for entry in self._index:
            try:
                os.close(os.open(Path(self._git.workdir, entry.path), os.O_RDONLY | os.O_NOFOLLOW))
            except PermissionError as refused:
                return refused
            except OSError:
                # It is gone, or a link: git can tell that.
                continue
        return CommandError(f"git cannot compare the files of {self.directory}: {error}")


def warn_of_untracked(directory: Path) -> Iterator[Diagnostic]:
    """Return a warning of a `.kakehiignore` by which the check went, and that nobody added."""
    try:
        is_told = WorkingTree(directory).is_ignoring_untracked()
    except CommandError:
        # There is no git, or no index: then nothing was added.
        return
    if is_told:
        said = "is untracked, and leaves files out: `git commit -a` would leave it out itself"
        yield Diagnostic("warning", NAME, 0, 0, f"{NAME} {said}", "add it first: git add")


def _reason(on_disk: Path, name: str, *, is_ignored: bool) -> str | None:
    """Return why an edited file is left out that looks like configuration."""
    if any(part.startswith(".") for part in Path(name).parts):
        return None
    if on_disk.is_symlink():
        return rules.A_LINK
    if on_disk.is_dir() and is_there(on_disk / ".git"):
        return rules.A_SUBMODULE
    if not on_disk.is_file():
        return None
    if is_ignored and files.is_configuration(name):
        return rules.IGNORED
    return None if is_ignored else rules.reason(os.fsencode(name))


def every_file_of(directory: Path, ref: str) -> Iterator[tuple[str, bytes]]:
    """Return path and content of every file of the config directory in a commit."""
    repository = files.open_repository(directory)
    objects = repository.objects
    pending = [("", repository.commits.config_tree(repository.refs.find_commit(ref)))]
    while pending:
        prefix, name = pending.pop()
        for item in objects.tree(name):
            path = f"{prefix}{item.name}"
            if isinstance(item, pygit2.Tree):
                pending.append((f"{path}/", str(item.id)))
            elif isinstance(item, pygit2.Blob):
                yield path, objects.read_blob(item.id.raw, files.FILE_BYTES_MAX)
