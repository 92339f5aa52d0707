"""What was edited since a commit: exactly the configuration files that differ, however they do."""

import os
from pathlib import Path

import pytest

from reconciler.cli.exits import CommandError
from reconciler.cli.trees import files
from reconciler.cli.trees.working_tree import WorkingTree
from tests.harness.repo import Repo
from tests.reconciler.cli.conftest import VALID


def edited(repo: Repo, commit: str, directory: Path | None = None) -> dict[str, bytes | None]:
    return WorkingTree(directory or repo.directory).edited_since(commit)


def test_a_clean_working_tree(shop: Repo) -> None:
    assert edited(shop, shop.head()) == {}
    os.utime(shop.directory / "shop.yaml")
    assert edited(shop, shop.head()) == {}, "touched is not edited"


def test_every_kind_of_edit(shop: Repo) -> None:
    base = shop.commit({"a.yaml": "a", "b.yaml": "b", "c.yaml": "c", "sub/d.yaml": "d"})
    shop.write({"a.yaml": "A", "b.yaml": None, "new/e.yml": "e", "notes.txt": "n"})
    shop.write({".hidden.yaml": "h", "ignored.yaml": "i", ".gitignore": "ignored.yaml\n"})
    shop.git("mv", "sub/d.yaml", "d.yaml")
    shop.write({"c.yaml": "staged"})
    shop.git("add", "c.yaml")
    assert edited(shop, base) == {
        "a.yaml": b"A",
        "b.yaml": None,
        "c.yaml": b"staged",
        "d.yaml": b"d",
        "new/e.yml": b"e",
        "sub/d.yaml": None,
    }


def test_what_git_ignores_is_told_as_validate_tells_it(shop: Repo) -> None:
    """A file, whole folders, and a folder in one that git does not know."""
    shop.commit({".gitignore": "/x\nnode_modules/\n/y.yaml\n/o.yaml\n*.tmp.yaml\n"})
    shop.commit({".kakehiignore": "/o.yaml\n/x/o/\n"})
    lying = ["x/new.yaml", "x/a/b/c.yml", "node_modules/q/z.yaml", "y.yaml", "new/x.tmp.yaml"]
    lying.append("new/node_modules/w.yaml")
    others = [
        "o.yaml",
        "x/o/o.yaml",
        "x/README.md",
        "x/.hidden/a.yaml",
        "node_modules/q/package.json",
    ]
    shop.write(dict.fromkeys([*lying, *others], "a"))
    (shop.directory / "x" / "link.yaml").symlink_to("new.yaml")
    closed = shop.directory / "node_modules" / "closed"
    closed.mkdir()
    validated: dict[str, str] = {}
    planned: dict[str, str] = {}
    list(files.of_working_tree(shop.directory, validated))
    assert WorkingTree(shop.directory).edited_since(shop.head(), planned) == {}
    assert set(planned) == {*lying, "x/link.yaml"}
    assert planned == validated
    # Where nothing is applied yet, all of the tree is sent.
    first: dict[str, str] = {}
    assert dict(WorkingTree(shop.directory).wanted(first)) == {"shop.yaml": VALID.encode()}
    assert first == validated


def test_what_was_added_though_it_is_ignored_is_wanted(shop: Repo) -> None:
    shop.write({".gitignore": "a.yaml\n", "a.yaml": "a"})
    shop.git("add", "-f", "a.yaml", ".gitignore")
    left_out: dict[str, str] = {}
    assert dict(WorkingTree(shop.directory).wanted(left_out))["a.yaml"] == b"a"
    assert left_out == {}


def test_commits_since_then_count_too(shop: Repo) -> None:
    base = shop.head()
    shop.commit({"a.yaml": "a"})
    shop.write({"b.yaml": "b"})
    assert edited(shop, base) == {"a.yaml": b"a", "b.yaml": b"b"}
    shop.write({"a.yaml": None, "b.yaml": None})
    assert edited(shop, base) == {}


def test_a_link_is_no_configuration(shop: Repo) -> None:
    path = shop.directory / "shop.yaml"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert edited(shop, shop.head()) == {"shop.yaml": None}


def test_only_the_config_directory_counts(shop: Repo) -> None:
    base = shop.commit({"proxy/a.yaml": VALID})
    shop.write({"proxy/a.yaml": "A", "shop.yaml": "S", "proxy-old/b.yaml": "B"})
    assert edited(shop, base, shop.directory / "proxy") == {"a.yaml": b"A"}


def test_a_linked_working_tree(shop: Repo, tmp_path: Path) -> None:
    shop.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "shop.yaml").write_text("edited")
    assert edited(shop, shop.head(), tmp_path / "side") == {"shop.yaml": b"edited"}
    assert edited(shop, shop.head()) == {}


def test_a_bare_repository_has_none(shop: Repo, tmp_path: Path) -> None:
    shop.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    with pytest.raises(CommandError, match="has no working tree"):
        WorkingTree(tmp_path / "bare.git")


def test_files_that_entities_may_name(shop: Repo) -> None:
    base = shop.commit({"a.txt": "a", "b.crt": "b", "same.html": "s", "sub/c.bin": b"\xff"})
    shop.write({"a.txt": None, "b.crt": "B", "new.key": "n", "sub/c.bin": b"\xfe", "e.yaml": "e"})
    shop.write({".hidden": "h", "ignored.pem": "i", ".gitignore": "ignored.pem\n"})
    tree, beside = WorkingTree(shop.directory), set[str]()
    assert tree.edited_since(base, None, beside) == {"e.yaml": b"e"}
    assert beside == {"a.txt", "b.crt", "new.key", "sub/c.bin", ".hidden", ".gitignore"}
    contents = [tree.content(name) for name in ("a.txt", "b.crt", "sub/c.bin")]
    assert contents == [None, b"B", b"\xfe"]
    differ = [tree.differs(base, *each) for each in (("b.crt", b"b"), ("a.txt", None))]
    assert differ == [False, True]


def test_files_that_no_commit_will_have(shop: Repo) -> None:
    shop.write({".gitignore": "*.key\n", "a.key": "a", "b.key": "b", "c.crt": "c"})
    shop.git("add", "--force", "b.key")
    tree = WorkingTree(shop.directory)
    assert [tree.never_commits(name) for name in ("a.key", "b.key", "c.crt")] == [
        True,
        False,
        False,
    ]


def test_everything_for_a_daemon_that_has_nothing(shop: Repo) -> None:
    shop.write({"a.pem": "-", "notes.txt": "n", ".hidden.yaml": "h", "b.key": "b"})
    shop.write({".gitignore": "*.key\n"})
    beside = set[str]()
    found = dict(WorkingTree(shop.directory).wanted(None, beside))
    assert found == {"shop.yaml": VALID.encode()}
    assert beside == {"a.pem", "notes.txt", ".hidden.yaml", ".gitignore"}


def ignoring_files(repo: Repo, commit: str) -> dict[str, list[str]]:
    return WorkingTree(repo.directory).differing(commit).to_json()


def test_what_leaves_files_out_counts_as_edited_too(shop: Repo) -> None:
    """A plan goes by it, and the commit has it only if it was added."""
    base = shop.commit({"b.yaml": "b"})
    shop.write({".kakehiignore": "b.yaml\n"})
    assert edited(shop, base) == {"b.yaml": None}
    assert ignoring_files(shop, base) == {
        "edited": [],
        "deleted": [],
        "untracked": [".kakehiignore"],
    }
    shop.git("add", "-A")
    assert ignoring_files(shop, base)["edited"] == [".kakehiignore"]
    base = shop.commit()
    assert ignoring_files(shop, base) == {"edited": [], "deleted": [], "untracked": []}
    shop.write({".kakehiignore": "c.yaml\n", "d.yaml": "d"})
    assert edited(shop, base) == {"b.yaml": b"b", "d.yaml": b"d"}
    assert ignoring_files(shop, base) == {
        "edited": [".kakehiignore"],
        "deleted": [],
        "untracked": ["d.yaml"],
    }
    shop.write({".kakehiignore": None})
    assert ignoring_files(shop, base)["deleted"] == [".kakehiignore"]


def test_what_leaves_files_out_and_git_ignores_leaves_nothing_out(shop: Repo) -> None:
    base = shop.commit({"b.yaml": "b"})
    shop.write({".gitignore": ".kakehiignore\n", ".kakehiignore": "b.yaml\n"})
    left_out: dict[str, str] = {}
    assert WorkingTree(shop.directory).edited_since(base, left_out) == {}
    assert left_out == {".kakehiignore": "is ignored by git, so that no commit has it"}
    assert ignoring_files(shop, base) == {"edited": [], "deleted": [], "untracked": []}


def test_line_ends_are_those_of_the_commit(shop: Repo) -> None:
    """Git changes them when a file is committed, by attributes or by core.autocrlf."""
    crlf, lf = b"one\r\ntwo\r\n", b"one\ntwo\n"
    base = shop.commit({".gitattributes": "*.txt text eol=crlf\n*.bin -text\n", "p.txt": lf})
    shop.write({"p.txt": crlf, "p.bin": crlf, "p.html": crlf})
    tree = WorkingTree(shop.directory)
    assert not tree.differs(base, "p.txt", tree.content("p.txt"))
    assert [tree.content(name) for name in ("p.bin", "p.html")] == [crlf, crlf]
    shop.git("config", "core.autocrlf", "input")
    # Git says so of what it has to change: that it will.
    shop.write({"q.html": crlf, "id.html": "$Id: 1 $\n", ".gitattributes": "id.html ident\n"})
    tree = WorkingTree(shop.directory)
    contents = [tree.content(name) for name in ("q.html", "id.html")]
    commit = shop.commit()
    assert contents == [shop.show(commit, name) for name in ("q.html", "id.html")]
    assert contents == [lf, b"$Id$\n"]
