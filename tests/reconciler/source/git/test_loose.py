"""Objects without their end, which libgit2 would read for ever, and what it refuses itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.source.git.repository import Repository
from reconciler.source.git.repository_errors import RepositoryError, UnknownCommitError
from tests.harness.daemon import EXECUTABLE
from tests.harness.repo import Repo

FILE = {"shop.yaml": {"clusters": {f"c{number}": {} for number in range(400)}}}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit(FILE)
    made.commit({**FILE, "more/b.yaml": {"clusters": {"b": {}}}}, "second")
    return made


def cut(repo: Repo, name: str, share: float = 0.6) -> None:
    """Leave a part of an object's file."""
    oid = repo.git("rev-parse", name).strip()
    path = repo.directory / ".git" / "objects" / oid[:2] / oid[2:]
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[: max(int(len(content) * share), 12)])


def read_all(repo: Repo) -> None:
    opened = Repository(repo.directory)
    commit = opened.refs.resolve("refs/heads/main")
    tree = opened.commits.config_tree(commit)
    opened.objects.read_tree(bytes.fromhex(tree))
    assert opened.objects.file_at(tree, "shop.yaml", 1 << 20)
    assert opened.objects.file_at(tree, "more/b.yaml", 1 << 20)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name", ["main", "main^{tree}", "main:more", "main:shop.yaml", "main:more/b.yaml"]
)
def test_an_object_without_its_end_is_told(repo: Repo, name: str) -> None:
    read_all(repo)
    cut(repo, name)
    with pytest.raises(RepositoryError, match="ends too early"):
        read_all(repo)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("spec", ["main", "HEAD", "whole", "short", "main~1", "v1", "refs/tags/v1"])
def test_by_whatever_name(repo: Repo, spec: str) -> None:
    repo.git("tag", "-a", "-m", "one", "v1")
    head = repo.git("rev-parse", "HEAD").strip()
    spec = {"whole": head, "short": head[:10]}.get(spec, spec)
    Repository(repo.directory).refs.find_commit(spec)
    cut(repo, "main")
    with pytest.raises(RepositoryError, match="ends too early"):
        Repository(repo.directory).refs.find_commit(spec)


@pytest.mark.timeout(20)
def test_what_comes_before(repo: Repo) -> None:
    third = repo.commit({"c.yaml": {"clusters": {"c": {}}}}, "third")
    first = repo.git("rev-parse", "main~2").strip()
    opened = Repository(repo.directory)
    assert opened.commits.is_descendant(third, first)
    assert list(opened.commits.first_parents(third)) == [
        repo.git("rev-parse", f"main~{number}").strip() for number in (1, 2)
    ]
    cut(repo, "main~1")
    opened = Repository(repo.directory)
    assert not opened.commits.is_descendant(third, first)
    assert list(opened.commits.first_parents(third)) == []


@pytest.mark.timeout(20)
def test_one_that_is_borrowed(repo: Repo, tmp_path: Path) -> None:
    borrower = tmp_path / "borrower"
    subprocess.run(
        ["git", "clone", "-q", "--shared", repo.directory, borrower], check=True, timeout=30
    )
    Repository(borrower).refs.find_commit("main")
    cut(repo, "main")
    with pytest.raises(RepositoryError, match="ends too early"):
        Repository(borrower).refs.find_commit("main")


def test_a_file_that_is_too_large_is_not_read(repo: Repo) -> None:
    opened = Repository(repo.directory)
    tree = opened.commits.config_tree(opened.refs.resolve("refs/heads/main"))
    assert opened.objects.file_at(tree, "shop.yaml", 100) == bytes(101)


@pytest.mark.parametrize("name", ["main", "main^{tree}", "main:more", "main:more/notes.md"])
def test_whoever_validates_is_told(repo: Repo, name: str) -> None:
    repo.commit({"more/notes.md": "".join(f"{number * number:x}\n" for number in range(9000))})

    def validated() -> subprocess.CompletedProcess[str]:
        command = [EXECUTABLE, "validate", "--ref", "main"]
        return subprocess.run(
            command, cwd=repo.directory, capture_output=True, text=True, timeout=20
        )

    assert validated().returncode == 0
    cut(repo, name)
    done = validated()
    assert done.returncode == 1
    assert "ends too early" in done.stderr


@pytest.mark.parametrize("part", ["pack", "idx"])
def test_a_ref_into_a_damaged_pack_is_no_unknown_name(repo: Repo, part: str) -> None:
    repo.git("tag", "v1")
    repo.git("gc", "-q")
    [path] = (repo.directory / ".git/objects/pack").glob(f"*.{part}")
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[: len(content) // 2])
    for name in ("main", "HEAD", "v1", "refs/heads/main"):
        with pytest.raises(RepositoryError, match=f"{name} cannot be read: ") as raised:
            Repository(repo.directory).refs.find_commit(name)
        assert not isinstance(raised.value, UnknownCommitError)


def test_what_is_not_what_its_id_says_is_told(repo: Repo) -> None:
    names = [repo.git("rev-parse", name) for name in ("main:shop.yaml", "main:more/b.yaml")]
    one, other = (repo.directory / ".git" / "objects" / each[:2] / each[2:] for each in names)
    one.chmod(0o600)
    one.write_bytes(other.read_bytes())
    with pytest.raises(RepositoryError, match="has another content than its name says"):
        read_all(repo)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["main", "main^{tree}", "main:more", "main:more/b.yaml"])
def test_a_flipped_bit_is_told_or_changes_nothing(repo: Repo, name: str) -> None:
    """What is read is what was committed, or it is said which file is damaged."""
    tree = repo.git("rev-parse", "main^{tree}").strip()
    wanted = repo.show("main", "more/b.yaml")
    oid = repo.git("rev-parse", name).strip()
    path = repo.directory / ".git" / "objects" / oid[:2] / oid[2:]
    good, told = path.read_bytes(), 0
    path.chmod(0o600)
    bits = range(0, len(good) * 8, 5)
    for bit in bits:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            read_all(repo)
            assert Repository(repo.directory).objects.file_at(tree, "more/b.yaml", 1000) == wanted
        except RepositoryError as error:
            assert str(path) in str(error) or oid in str(error), error
            told += 1
    assert told > len(bits) // 2


def test_what_is_packed_is_read_as_before(repo: Repo) -> None:
    repo.git("gc", "-q", "--prune=now")
    assert not list((repo.directory / ".git" / "objects").glob("[0-9a-f][0-9a-f]/*"))
    read_all(repo)
