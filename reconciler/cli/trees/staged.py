"""What was added to git's index since a commit, at a cost that follows the difference.

libgit2 compares an index with a tree entry by entry, for which it reads every folder of the commit:
0.2 s for a hundred thousand files. But the index remembers which folders are those
of a tree, and which tree: so its own tree is made of the few that are not, and two trees are
compared by where they differ. Called by `reconciler.cli.trees.working_tree`.
"""

from collections.abc import Callable
from pathlib import Path

from reconciler.cli.interrupts import raised
from reconciler.libgit2 import pygit2
from reconciler.source.git.quarantine import object_directories
from reconciler.source.tree_diff import TREE_MODES, Entry, differing_entries


def differing(index: pygit2.Index, objects: Path, tree: pygit2.Tree) -> set[bytes] | None:
    """Return the paths that an index has otherwise than a tree; None if it makes no tree.

    That is one with conflicts, or of what is not all among the objects.
    """
    import tempfile

    try:
        with raised(), tempfile.TemporaryDirectory(prefix="kakehi-index-") as place:
            # What is made goes with it: a question writes nothing into somebody's repository.
            aside = pygit2.init_repository(place, bare=True)
            for each in (str(objects), *object_directories()):
                aside.odb.add_disk_alternate(each)
            made = index.write_tree(aside)
            return _differing(lambda oid: aside.odb.read(oid)[1], made.raw, tree.id.raw)
    except (pygit2.GitError, KeyError, ValueError, OSError):
        return None


def _differing(read: Callable[[pygit2.Oid], bytes], one: bytes, other: bytes) -> set[bytes]:
    found: set[bytes] = set()
    pending: list[tuple[bytes, bytes | None, bytes | None]] = [(b"", one, other)]
    while pending:
        prefix, old, new = pending.pop()
        if old == new:
            continue
        contents = (read(pygit2.Oid(raw=oid)) if oid else b"" for oid in (old, new))
        before, after = differing_entries(*contents)
        for name in before.keys() | after.keys():
            was, now = before.get(name), after.get(name)
            old_folder, new_folder = _folder(was), _folder(now)
            if old_folder or new_folder:
                pending.append((prefix + name + b"/", old_folder, new_folder))
            if (was and not old_folder) or (now and not new_folder):
                found.add(prefix + name)
    return found


def _folder(entry: Entry | None) -> bytes | None:
    return entry.oid if entry and entry.mode in TREE_MODES else None
