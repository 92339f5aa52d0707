"""The walk against `git diff-tree` on random histories, and what it costs."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pygit2
import pytest

from reconciler.source.tree_diff import (
    ManyFilesError,
    diff_trees,
    differing_entries,
    holds_configuration,
)
from tests.harness.repo import Repo

NAMES = ["a.yaml", "a.yml", "b.yaml", "a", "a-b.yaml", "é ü.yaml", "a b.yaml", "x.txt", ".h.yaml"]
FOLDERS = ["", "a/", "a.yaml/", "b/c/", ".git-like/", ".hidden/", "deep/er/still/"]


class Reader:
    """Reads tree objects and counts how many."""

    def __init__(self, directory: Path) -> None:
        self.git = pygit2.Repository(str(directory))
        self.count = 0

    def read(self, oid: bytes) -> bytes:
        self.count += 1
        return bytes(self.git.odb.read(pygit2.Oid(raw=oid))[1])

    def tree(self, commit: str) -> bytes:
        return bytes(self.git[commit].peel(pygit2.Tree).id.raw)

    def build(self, files: dict[str, bytes]) -> bytes:
        """Write a flat tree of files; return its id."""
        builder = self.git.TreeBuilder()
        for name, content in files.items():
            builder.insert(name, self.git.create_blob(content), pygit2.enums.FileMode.BLOB)
        return bytes(builder.write().raw)


def expected(repo: Repo, old: str, new: str) -> dict[str, str | None]:
    """What git itself says: path → blob id, None when it is gone."""
    raw = subprocess.run(
        ["git", "-C", str(repo.directory), "diff-tree", "-r", "-z", "--no-renames", old, new],
        capture_output=True,
        check=True,
    ).stdout.decode()
    found: dict[str, str | None] = {}
    words = raw.rstrip("\0").split("\0") if raw else []
    for facts, path in zip(words[::2], words[1::2], strict=True):
        _, mode, before, after, _ = facts.split(" ")
        parts = path.split("/")
        hidden = any(part.startswith(".") for part in parts)
        if hidden or not path.endswith((".yaml", ".yml")):
            continue
        was_file = facts.split(" ")[0] in (":100644", ":100755")
        if mode in ("100644", "100755"):
            found[path] = after
        elif was_file and before:
            found[path] = None
    return found


def mutate(repo: Repo, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 6)):
        path = repo.directory / (dice.choice(FOLDERS) + dice.choice(NAMES))
        parent = path.parent
        blocked = [
            each for each in (parent, *parent.parents) if each.is_symlink() or each.is_file()
        ]
        for each in blocked:
            each.unlink()
        parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            subprocess.run(["rm", "-r", str(path)], check=True)
        elif path.is_symlink() or dice.random() < 0.3:
            path.unlink(missing_ok=True)
        if dice.random() < 0.75:
            if dice.random() < 0.15:
                path.unlink(missing_ok=True)
                path.symlink_to("a.yaml")
            elif not path.exists():
                path.write_text(str(dice.randint(0, 3)))
                path.chmod(dice.choice([0o644, 0o755]))


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_git_on_random_histories(repo: Repo, seed: int) -> None:
    dice = random.Random(seed)
    commits = [repo.commit({"a.yaml": "0"})]
    for _ in range(25):
        mutate(repo, dice)
        commits.append(repo.commit())
    reader = Reader(repo.directory)
    for _ in range(60):
        old, new = dice.choice(commits), dice.choice(commits)
        diff = diff_trees(reader.read, reader.tree(old), reader.tree(new))
        found = {path: oid.hex() if oid else None for path, oid in diff.changed.items()}
        assert found == expected(repo, old, new), (old, new)


def test_equal_subtrees_are_not_read(repo: Repo) -> None:
    files = {f"team-{team}/part-{part}/f.yaml": "x" for team in range(20) for part in range(10)}
    old = repo.commit(files)
    new = repo.commit({"team-7/part-3/f.yaml": "y"})
    reader = Reader(repo.directory)
    diff = diff_trees(reader.read, reader.tree(old), reader.tree(new))
    assert list(diff.changed) == ["team-7/part-3/f.yaml"]
    assert reader.count == 6, "the root, the team and the part, of both commits"


def test_a_large_flat_directory_is_compared_where_it_differs(repo: Repo) -> None:
    repo.commit({"a.yaml": "0"})
    reader = Reader(repo.directory)
    files = {f"f{number:05d}.yaml": b"x%d" % number for number in range(5000)}
    old = reader.read(reader.build(files))
    for position in (0, 2500, 4999):
        name = f"f{position:05d}.yaml"
        new = reader.read(reader.build({**files, name: b"other"}))
        before, after = differing_entries(old, new)
        assert list(before) == list(after) == [name.encode()]


def test_entries_are_told_apart_however_their_bytes_fall() -> None:
    """Ids are any bytes: here they imitate the entries around them."""
    dice = random.Random(5)

    def tree(entries: dict[bytes, bytes]) -> bytes:
        return b"".join(b"100644 %s\0%s" % pair for pair in sorted(entries.items()))

    for _ in range(3000):
        ids = [dice.choice([b"1", b"0", b" ", b"\0", b"a"]) * 20 for _ in range(4)]
        ids.append(b"100644 a\x00100644 b\x000")
        names = [b"a", b"aa", b"b", b"100644", b"0 b", b"c"]
        old = {name: dice.choice(ids)[:20].ljust(20, b"0") for name in dice.sample(names, 4)}
        new = dict(old)
        for name in dice.sample(names, 2):
            if dice.random() < 0.5:
                new.pop(name, None)
            else:
                new[name] = dice.choice(ids)[:20].ljust(20, b"0")
        before, after = differing_entries(tree(old), tree(new))
        names_changed = {name for name in names if old.get(name) != new.get(name)}
        assert {name: entry.oid for name, entry in before.items()} == {
            name: oid for name, oid in old.items() if name in names_changed
        }
        assert {name: entry.oid for name, entry in after.items()} == {
            name: oid for name, oid in new.items() if name in names_changed
        }


def test_links_and_submodules_are_left_out_and_named(repo: Repo) -> None:
    repo.write({"a.yaml": "x"})
    (repo.directory / "link.yaml").symlink_to("a.yaml")
    (repo.directory / "folder").symlink_to("/etc")
    commit = repo.commit()
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    repo.git("commit", "-qm", "submodule")
    reader = Reader(repo.directory)
    diff = diff_trees(reader.read, None, reader.tree(repo.head()))
    assert list(diff.changed) == ["a.yaml"]
    assert diff.skipped == {
        "folder": "is a symbolic link",
        "link.yaml": "is a symbolic link",
        "module": "is a submodule",
    }


def test_a_file_that_becomes_a_link_is_gone(repo: Repo) -> None:
    old = repo.commit({"a.yaml": "x", "b.yaml": "y"})
    (repo.directory / "b.yaml").unlink()
    (repo.directory / "b.yaml").symlink_to("a.yaml")
    new = repo.commit()
    reader = Reader(repo.directory)
    diff = diff_trees(reader.read, reader.tree(old), reader.tree(new))
    assert diff.changed == {"b.yaml": None}
    assert diff.skipped == {"b.yaml": "is a symbolic link"}


def test_expectations_are_none(repo: Repo) -> None:
    new = repo.commit({"a.expect.yaml": "x", "sub/b.expect.yml": "x", "c.Expect.YAML": "x"})
    reader = Reader(repo.directory)
    diff = diff_trees(reader.read, None, reader.tree(new))
    assert (diff.changed, diff.skipped) == ({}, {})


def test_whether_there_is_any_configuration(repo: Repo) -> None:
    reader = Reader(repo.directory)
    files = {"README.md": "x", ".hidden/a.yaml": "x", "sub/b.txt": "y", "c.expect.yaml": "x"}
    without = repo.commit(files)
    assert not holds_configuration(reader.read, reader.tree(without))
    having = repo.commit({"sub/deep/a.yml": "x"})
    assert holds_configuration(reader.read, reader.tree(having))


def test_many_folders_that_differ_are_not_entered_to_see_that_they_are_many(repo: Repo) -> None:
    reader = Reader(repo.directory)
    before, after = (
        reader.tree(repo.commit({f"tenants/{each:03}/a.yaml": text for each in range(40)}))
        for text in ("a: 1\n", "a: 2\n")
    )
    with pytest.raises(ManyFilesError):
        diff_trees(reader.read, before, after, at_most=8)
    assert reader.count == 4, "the root and the folder of folders, of both"
    assert len(diff_trees(reader.read, before, after, at_most=40).changed) == 40


@pytest.mark.parametrize("seed", range(20))
def test_entries_that_differ_anywhere_in_a_large_folder(seed: int) -> None:
    chance = random.Random(seed)
    old = {b"%05d" % each: chance.randbytes(20) for each in range(300)}
    new = dict(old)
    for name in chance.sample(sorted(old), chance.choice((1, 3, 100))):
        match chance.randrange(3):
            case 0:
                new[name] = chance.randbytes(20)
            case 1:
                del new[name]
            case _:
                new[name + b"-%d" % chance.randrange(100)] = chance.randbytes(20)
    found = differing_entries(*map(_tree_of, (old, new)))
    assert [{name: each.oid for name, each in side.items()} for side in found] == [
        dict(old.items() - new.items()),
        dict(new.items() - old.items()),
    ]


def _tree_of(entries: dict[bytes, bytes]) -> bytes:
    return b"".join(b"40000 %b\0%b" % (name, entries[name]) for name in sorted(entries))
