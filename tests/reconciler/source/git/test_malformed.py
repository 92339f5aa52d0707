"""Trees that git itself would not make: an object of another kind than its entry says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

_CONFIGURATION = "clusters: {shop: {backends: {a: {address: '127.0.0.1:9'}}}}\n"


def _object(repo: Repo, kind: str, content: bytes) -> str:
    done = subprocess.run(
        ["git", "-C", repo.directory, "hash-object", "-w", "--literally", "-t", kind, "--stdin"],
        input=content,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def _commit(repo: Repo, tree: str) -> None:
    parent = repo.head()
    repo.git(
        "update-ref", "refs/heads/main", repo.git("commit-tree", tree, "-p", parent, "-m", "x")
    )


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("40000 dir", "is a blob, and the tree that names it says tree"),
        ("100644 a.yaml", "is a tree, and the tree that names it says blob"),
        ("no entry", "a tree of the commit is malformed"),
    ],
)
def test_what_a_malformed_tree_names_is_told(
    tmp_path: Path, entry: str, says: str, *, packed: bool
) -> None:
    repo = Repo(tmp_path / "repository")
    repo.commit({"kakehi.yaml": _CONFIGURATION})
    blob = bytes.fromhex(repo.git("rev-parse", "HEAD:kakehi.yaml"))
    tree = bytes.fromhex(repo.git("rev-parse", "HEAD^{tree}"))
    named = blob if entry.startswith("40000") else tree
    first = b"100644 kakehi.yaml\0" + blob
    content = entry.encode() + b"\0" + named
    # As git has them: by name.
    lines = sorted([content, first], key=lambda line: line.partition(b" ")[2])
    _commit(repo, _object(repo, "tree", b"".join(lines)))
    if packed:
        repo.git("repack", "-adq", check=False)
    done = Kakehi(repo).run_cli("validate", str(repo.directory), "--ref", "main")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Kakehi itself" not in done.stderr
