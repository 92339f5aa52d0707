"""What git knows of a working tree: its index, whatever its form.

libgit2 reads no index that is split, nor one that names whole folders (a sparse one). The git
program writes those out plainly, into a copy that is gone with the question: nothing is written
into somebody's repository, and nothing runs that its configuration names. Called by
`reconciler.cli.trees.working_tree`.
"""

import os
import shlex
from pathlib import Path
from shutil import copyfile
from stat import S_ISREG

from reconciler.cli.exits import CommandError
from reconciler.cli.interrupts import raised
from reconciler.cli.trees import sparse
from reconciler.cli.trees.answering import asked
from reconciler.libgit2 import pygit2
from reconciler.presence import found_at
from reconciler.source.git.quarantine import object_directories
from schemas.record import record

_GIT_TIMEOUT_S = 60.0
_REWRITE = ("update-index", "--no-split-index", "--force-write-index")
_INDEX = "GIT_INDEX_FILE"
_PLAIN = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.splitIndex": "false",
    "index.sparse": "false",
    "safe.directory": "*",
}


@record
class Known:
    """An index that was read."""

    git: pygit2.Repository
    """Opened with it."""
    left_out: dict[bytes, bytes]
    """The files that the working tree has not, and a commit of it has: path → blob id."""
    is_plain: bool
    """Whether it is the repository's own, which others can open as well."""

    @property
    def index(self) -> pygit2.Index:
        """The index itself."""
        index: pygit2.Index = self.git.index
        return index


def read(git: pygit2.Repository) -> Known:
    """Return the index of a repository. Raises `CommandError` when nobody can read it."""
    place = Path(git.path, "index")
    found = found_at(place)
    if found is not None and not S_ISREG(place.stat().st_mode):
        raise _unreadable(place, "it is no file")
    try:
        git.index.read(False)
        return Known(git, sparse.left_out(place), is_plain=True)
    except (pygit2.GitError, OSError) as error:
        return _written_out(git, place, str(error))


def _written_out(git: pygit2.Repository, place: Path, refused: str) -> Known:
    # Most indexes need neither.
    import subprocess
    import tempfile

    options = [word for name, value in _PLAIN.items() for word in ("-c", f"{name}={value}")]
    where = [f"--git-dir={git.path}", f"--work-tree={git.workdir}"]
    try:
        with raised(), tempfile.TemporaryDirectory(prefix="kakehi-index-") as folder:
            copy = Path(folder, "index")
            copyfile(place, copy)
            # The program has a time limit of its own.
            asked(None)
            done = subprocess.run(
                ["git", *options, *where, *_REWRITE],
                check=False,
                env={**os.environ, _INDEX: str(copy), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_GIT_TIMEOUT_S,
            )
            if done.returncode != 0:
                said = done.stderr.decode(errors="replace").strip().splitlines()
                raise _unreadable(place, said[-1].removeprefix("fatal: ") if said else refused)
            return Known(_opened_with(git, copy), sparse.left_out(copy), is_plain=False)
    except subprocess.TimeoutExpired:
        raise _unreadable(place, f"git took over {_GIT_TIMEOUT_S:g} s for it") from None
    except (pygit2.GitError, OSError) as error:
        raise _unreadable(place, f"{refused}; {error}") from None


def _opened_with(git: pygit2.Repository, index: Path) -> pygit2.Repository:
    """Open a repository with another index, which libgit2 takes from the environment alone."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
    try:
        for name in kept:
            del os.environ[name]
        os.environ[_INDEX] = str(index)
        opened = pygit2.Repository(git.workdir, pygit2.enums.RepositoryOpenFlag.FROM_ENV)
        opened.index.read(True)
    finally:
        os.environ.pop(_INDEX, None)
        os.environ.update(kept)
    for objects in object_directories():
        opened.odb.add_disk_alternate(objects)
    return opened


def _unreadable(place: Path, why: str) -> CommandError:
    quoted = shlex.quote(str(place))
    return CommandError(
        f"git's index cannot be read: {place}: {why}",
        f"have git make it anew, which leaves all files as they are: rm -r {quoted} && git reset",
    )
