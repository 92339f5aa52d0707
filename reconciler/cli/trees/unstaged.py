"""What lies in a working tree otherwise than in git's index; threads share the look at a large one.

Each file is asked for its times and its size, by libgit2 one after the other: a quarter of a second
for a hundred thousand. It leaves Python's lock to others meanwhile, and can be told at which paths
to look: so the index is cut into equal parts, and whatever lies between two cuts, known to git or
not, is one thread's. Called by `reconciler.cli.trees.working_tree`.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from reconciler.cli.trees.git_index import Known
from reconciler.libgit2 import C, check_error, ffi, pygit2
from reconciler.presence import found_at
from reconciler.source.tree_diff import TREE_MODES, differing_entries
from schemas.record import record

THREADS_MAX = 4
INDEX_BYTES_A_THREAD_MIN = 1024 * 1024
"""Some ten thousand files: each thread reads the whole index, which is not for nothing."""

_FLAGS = (
    pygit2.enums.DiffOption.INCLUDE_UNTRACKED
    | pygit2.enums.DiffOption.INCLUDE_IGNORED
    | pygit2.enums.DiffOption.DISABLE_PATHSPEC_MATCH
)
# Others mean something at the beginning of a path, or have libgit2 take it for a pattern.
_PLAIN = re.compile(rb"[\w\x80-\xff/.@+=,~%:-]+")


@record
class _Cut:
    """Where a share begins: its first file, and the one before that, as the index has them."""

    share: int
    before: bytes
    first: bytes


def threads_for(git: pygit2.Repository) -> int:
    """Return by how many threads the files that git knows are looked at."""
    index = found_at(Path(git.path, "index"))
    wanted = index.st_size // INDEX_BYTES_A_THREAD_MIN if index is not None else 1
    return max(1, min(wanted, THREADS_MAX, len(os.sched_getaffinity(0))))


def deltas(
    read: Callable[[], Known],
    opened: Callable[[], pygit2.Repository],
    tree: pygit2.Tree,
    threads: int,
) -> list[pygit2.DiffDelta]:
    """Return what the working tree has otherwise than the index, what git does not know included.

    `read` tells the index; `opened` opens the repository once more, for each further thread. What
    neither the working tree nor `tree` has may be left out. Raises `pygit2.GitError`, and
    `CommandError` when nobody can read the index.
    """
    if threads == 1:
        return _differing(read().git, [])
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        # They read the index while we do.
        others = [pool.submit(_with_index, opened) for _ in range(threads - 1)]
        known = read()
        git = known.git
        # Of another form, they have no index: what they fail by is told by who reads it first.
        shares = _shares(git, tree, threads) if known.is_plain else []
        if not shares:
            return _differing(git, [])
        repositories = [git, *(other.result() for other in others)]
        return list(chain.from_iterable(pool.map(_differing, repositories, shares)))


def _with_index(opened: Callable[[], pygit2.Repository]) -> pygit2.Repository:
    git = opened()
    git.index.read(False)
    return git


def _differing(git: pygit2.Repository, paths: list[bytes]) -> list[pygit2.DiffDelta]:
    """Return the same of these paths and all below them; of everything, if there are none."""
    options = ffi.new("git_diff_options *")
    check_error(C.git_diff_options_init(options, 1))
    options.flags = int(_FLAGS)
    texts = [ffi.new("char[]", path) for path in paths]
    strings = ffi.new("char *[]", texts)
    options.pathspec.strings = strings
    options.pathspec.count = len(texts)
    found = ffi.new("git_diff **")
    check_error(C.git_diff_index_to_workdir(found, git._repo, ffi.NULL, options))  # noqa: SLF001  # it has no other way
    return list(pygit2.Diff.from_c(bytes(ffi.buffer(found)[:]), git).deltas)


def _shares(git: pygit2.Repository, tree: pygit2.Tree, threads: int) -> list[list[bytes]]:
    """Return the paths that each thread looks at; none, where one thread has to look at all."""
    index = git.index
    begins = [len(index) * share // threads for share in range(1, threads)]
    if not begins[0]:
        return []
    cuts = [
        _Cut(share, os.fsencode(index[at - 1].path), os.fsencode(index[at].path))
        for share, at in enumerate(begins, 1)
    ]
    shares: list[list[bytes]] = [[] for _ in range(threads)]
    for cut in cuts:
        # Where a share has nothing that git knows of a folder, libgit2 takes that for one that git
        # does not know: so it has these in any case, and a folder is divided only between them.
        shares[cut.share - 1].append(cut.before)
        shares[cut.share].append(cut.first)
    pending: list[tuple[bytes, pygit2.Tree | None, list[_Cut]]] = [(b"", tree, cuts)]
    try:
        while pending:
            folder, known, within = pending.pop()
            firsts = [cut.first[len(folder) :].partition(b"/")[0] for cut in within]
            for name, is_there in _names(git.workdir, folder, known).items():
                path = folder + name
                first = name.removesuffix(b"/")
                inside = []
                if is_there and first in firsts:
                    inside = [
                        cut for cut, each in zip(within, firsts, strict=True) if each == first
                    ]
                if inside and inside[0].before.startswith(path):
                    pending.append((path, _below(known, first), inside))
                else:
                    at = bisect_right(firsts, first)
                    shares[within[at - 1].share if at else within[0].share - 1].append(path)
    except OSError:
        # A folder that cannot be read, or is gone: what that means is told by who looks at all.
        return []
    return shares if all(map(_PLAIN.fullmatch, chain(*shares))) else []


def _names(top: str, folder: bytes, known: pygit2.Tree | None) -> dict[bytes, bool]:
    """Return what a folder has and had in a commit, and whether it is a folder that is there.

    Folders end with a slash: the order of libgit2's paths is that of the index only with it.
    """
    had = differing_entries(b"", known.read_raw())[1] if known is not None else {}
    names = {name + b"/" if each.mode in TREE_MODES else name: False for name, each in had.items()}
    with os.scandir(os.fsencode(top) + folder) as there:
        for each in there:
            is_folder = each.is_dir(follow_symlinks=False)
            names[each.name + b"/" if is_folder else each.name] = is_folder
    return {name: each for name, each in names.items() if name.rstrip(b"/") != b".git"}


def _below(tree: pygit2.Tree | None, name: bytes) -> pygit2.Tree | None:
    try:
        found = tree[os.fsdecode(name)] if tree is not None else None
    except (KeyError, UnicodeEncodeError):
        return None
    return found if isinstance(found, pygit2.Tree) else None
