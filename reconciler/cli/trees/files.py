"""Reads a configuration directory for the commands: the working tree, a commit, or the difference.

What counts as configuration is what `reconciler.source.tree_diff` says for commits: regular files
with a YAML suffix at any depth, nothing hidden, no symbolic links, no expectations.
Nothing in a repository is executed, and the git program is not needed.
"""

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.cli.exits import CommandError, UsageError
from reconciler.cli.trees.answering import ask_repository, asked
from reconciler.presence import denied_at, is_directory, is_there
from reconciler.source import left_out as rules
from reconciler.source.ignoring import NAME, NOTHING, Ignoring, parse

if TYPE_CHECKING:
    from reconciler.materials.reading import Reader
    from reconciler.source.git.repository import Repository

FILE_BYTES_MAX = 4 * 1024 * 1024 + 1
"""One more than is read of a document: enough for it to see that a file is too large."""

Ignored = Callable[[str], bool]
"""Whether git ignores a path below the config directory; folders end with a slash."""


class NotInGitError(CommandError):
    """A directory is in no repository (yet)."""


def nothing_ignored(path: str) -> bool:
    """Ignore nothing, as where there is no git."""
    return False


def is_configuration(path: str) -> bool:
    """Tell whether a path relative to the config directory is one that the proxy reads."""
    hidden = any(part.startswith(".") for part in PurePosixPath(path).parts)
    return rules.is_configuration(os.fsencode(path)) and not hidden


def all_files(
    directory: Path,
    hidden: bool = False,
    left_out: dict[str, str] | None = None,
    ignored: Ignored = nothing_ignored,
) -> Iterator[str]:
    """Return the path of every regular file in a stable order; never those of git itself.

    What a commit has no content of (links, the repositories of others) is put into `left_out`.
    Raises OSError for a folder that cannot be read, unless it is `ignored`.
    """
    expect_directory(directory)
    skipped = {} if left_out is None else left_out

    def wanted(name: str) -> bool:
        return name != ".git" if hidden else not name.startswith(".")

    for folder, folders, names in os.walk(directory, onerror=_unread(directory, ignored)):
        for name in sorted(filter(wanted, folders)):
            path = Path(folder, name)
            asked(path)
            if path.is_symlink():
                skipped[_shown(path, directory)] = rules.A_LINK
            elif is_there(path / ".git"):
                skipped[_shown(path, directory)] = rules.A_SUBMODULE
        folders[:] = [
            name
            for name in sorted(filter(wanted, folders))
            if _shown(Path(folder, name), directory) not in skipped
        ]
        for name in sorted(filter(wanted, names)):
            path = Path(folder, name)
            asked(path)
            if path.is_symlink():
                skipped[_shown(path, directory)] = rules.A_LINK
            elif path.is_file():
                yield path.relative_to(directory).as_posix()


def expect_directory(directory: Path) -> None:
    """Raise UsageError, with what may have been meant, when there is no such directory."""
    if is_directory(directory):
        return
    if (denied := denied_at(directory)) is not None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(denied))
    from reconciler.cli.parsers import closest
    from schemas.entities.entity import KINDS

    meant = None
    if not is_there(directory):
        kind, slash, name = str(directory).partition("/")
        near = closest(kind, KINDS)
        meant = f"{near}{slash}{name}" if near else None
        beside = directory.parent
        names = [each.name for each in beside.iterdir()] if is_directory(beside) else []
        found = closest(directory.name, [each for each in names if is_directory(beside / each)])
        meant = str(beside / found) if found else meant
    hint = f"did you mean {meant}?" if meant else None
    raise UsageError(f"{directory} is not a directory", hint)


def _unread(directory: Path, ignored: Ignored) -> Callable[[OSError], None]:
    def fail(error: OSError) -> None:
        path = Path(error.filename)
        if path == directory or not ignored(f"{path.relative_to(directory).as_posix()}/"):
            raise error

    return fail


def _shown(path: Path, directory: Path) -> str:
    return rules.shown(os.fsencode(path.relative_to(directory)))


def read(path: Path, most: int = FILE_BYTES_MAX) -> bytes:
    """Return the content of a file, cut where it would be refused anyway."""
    asked(path)
    with path.open("rb") as file:
        return file.read(most)


def of_working_tree(
    directory: Path, left_out: dict[str, str] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Return path and content of every configuration file that a commit of the tree would have.

    What looks like one and is none is put into `left_out`, with the reason.
    """
    from reconciler.cli.trees.working_tree import WorkingTree

    skipped = {} if left_out is None else left_out
    try:
        tree = WorkingTree(directory)
    except NotInGitError:
        tree = None
    ignoring = ignoring_of(directory) if tree is None else tree.ignoring
    ignored = tree.never_commits if tree is not None else nothing_ignored
    for path in all_files(directory, left_out=skipped, ignored=ignored):
        if ignoring.covers(path):
            continue
        raw = os.fsencode(path)
        reason = rules.reason(raw)
        if reason is not None:
            skipped[rules.shown(raw)] = reason
        elif is_configuration(path):
            if tree is not None and tree.never_commits(path):
                skipped[path] = rules.IGNORED
            else:
                yield path, read(directory / path)
    for path, content in tree.kept() if tree is not None else ():
        if is_configuration(path) and not ignoring.covers(path) and not rules.reason(path.encode()):
            yield path, content
    confirmed = rules.confirmed(skipped, lambda path, most: read(directory / path, most + 1))
    for path in list(skipped):
        if path not in confirmed or ignoring.covers(path):
            del skipped[path]
    if tree is not None:
        skipped |= tree.ignoring_in_vain()


def is_plain(path: Path) -> bool:
    """Tell whether a path is a regular file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def ignoring_of(directory: Path) -> Ignoring:
    """Return what the `.kakehiignore` of a directory without git leaves out."""
    file = directory / NAME
    return parse(read(file)) if is_plain(file) else NOTHING


def of_commit(
    directory: Path, ref: str, left_out: dict[str, str] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Return the path and content of every configuration file of a commit.

    What looks like one and is none is put into `left_out`, with the reason.
    """
    from reconciler.source.tree_diff import diff_trees, ignoring_in

    repository = open_repository(directory)
    root = bytes.fromhex(_config_tree(repository, ref))
    found = diff_trees(repository.objects.read_tree, None, root)
    ignoring = ignoring_in(repository.objects, root)
    if left_out is not None:
        named = {path: why for path, why in found.skipped.items() if not ignoring.covers(path)}
        left_out |= rules.confirmed(
            named, lambda path, most: repository.objects.read_blob(found.json[path], most)
        )
    for path, blob in sorted(found.changed.items()):
        if blob is not None and not ignoring.covers(path):
            asked(repository.common_dir / "objects")
            yield path, repository.objects.read_blob(blob, FILE_BYTES_MAX)


def has_configuration_directory(directory: Path, ref: str) -> bool:
    """Tell whether a commit has the directory at all."""
    from reconciler.source.git.repository_errors import NoConfigurationError

    repository = open_repository(directory)
    try:
        repository.commits.config_tree(repository.refs.find_commit(ref))
    except NoConfigurationError:
        return False
    return True


def _config_tree(repository: "Repository", ref: str) -> str:
    """Return the tree that a commit has; what cannot be read is no fault of who named it."""
    from reconciler.source.git.repository_errors import NoConfigurationError, UnknownCommitError

    try:
        return repository.commits.config_tree(repository.refs.find_commit(ref))
    except (NoConfigurationError, UnknownCommitError) as error:
        raise UsageError(str(error)) from None


def reader(directory: Path, ref: str | None) -> "Reader":
    """Return what reads the files that entities name: of a commit, or as they are on disk."""
    from reconciler.errors import UnreadableError

    if ref is None:
        return _disk_reader(directory)
    from reconciler.materials.reading import MATERIAL_BYTES_MAX, Guesses, bounded, read_external
    from reconciler.source.git.repository_errors import RepositoryError
    from reconciler.source.named import not_in_commit

    repository = open_repository(directory)
    tree = _config_tree(repository, ref)
    guesses = Guesses()

    def from_commit(path: str) -> bytes:
        if path.startswith("/"):
            return read_external(path)
        try:
            content = repository.objects.file_at(tree, path, MATERIAL_BYTES_MAX)
        except RepositoryError as error:
            raise UnreadableError(str(error)) from None
        if content is None:
            raise not_in_commit(repository, tree, path, guesses)
        return bounded(content)

    return from_commit


def _disk_reader(directory: Path) -> "Reader":
    """Return a reader that has what a commit of the working tree would have, and no more."""
    from reconciler.cli.trees.working_tree import WorkingTree
    from reconciler.errors import UnreadableError
    from reconciler.materials.reading import Guesses, names_in, read_external
    from reconciler.source import named

    try:
        tree = WorkingTree(directory)
    except NotInGitError:
        tree = None
    guesses = Guesses()

    def from_disk(path: str) -> bytes:
        if path.startswith("/"):
            return read_external(path)
        found = directory / path
        asked(found)
        ways = [found, *list(found.parents)[: path.count("/")]]
        if any(way.is_symlink() for way in ways):
            raise named.a_link()
        if any(is_there(way / ".git") for way in ways[1:]):
            raise named.of_another_repository()
        if found.is_dir():
            raise named.a_directory()
        if found.exists() and not found.is_file():
            raise UnreadableError("it is no regular file")
        if found.exists() and tree is not None and tree.never_commits(path):
            reason = "git ignores the file, so that no commit has it"
            raise UnreadableError(reason, named.UNCOMMITTED)
        if not found.exists():
            if tree is not None and (kept := tree.content_kept(path)) is not None:
                return kept
            # Names in a configuration are relative to its directory, wherever the file lies.
            message = f"No such file or directory: looked for {directory.resolve() / path}"
            raise UnreadableError(message, guesses.nearest(path, partial(names_in, found.parent)))
        content = read_external(str(found))
        return content if tree is None else tree.cleaned(path, content)

    return from_disk


def open_repository(directory: Path) -> "Repository":
    """Open the repository around a config directory."""
    from reconciler.source.git.repository import Repository
    from reconciler.source.git.repository_errors import NoRepositoryError, RepositoryError

    ask_repository(directory)
    try:
        return Repository(directory)
    except NoRepositoryError as error:
        hint = "start one with files to begin from: kakehi init DIR"
        raise NotInGitError(str(error), hint) from None
    except RepositoryError as error:
        raise CommandError(str(error)) from None
