"""The rehearsal of a change: it leaves what a change needs, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.loop.stager import Stager
from reconciler.materials.completing import NOTHING_HERE
from reconciler.source.git.objects import Objects
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Source
from reconciler.storage.store import Store
from tests.harness.repo import Repo
from tests.reconciler.entities import at_once, begun

# So many names are a tree that is worth to be kept.
_FILES = 600


def cluster(number: int, port: int) -> str:
    return f"clusters: {{c{number}: {{backends: {{a: {{address: '10.0.0.1:{port}'}}}}}}}}\n"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repository")
    files = {f"tenants/{number:04}.yaml": cluster(number, 80) for number in range(_FILES)}
    repo.commit({**files})
    return repo


def running(store: Store, source: Source, stager: Stager) -> None:
    """Have the newest commit run, without workers."""
    head = source.head()
    found = stager.whole(head.tree)
    puts = tuple(each for each in found.desired.values() if each is not None)
    order = begun(store.running, puts)
    at_once(store.commit(replace(order, commit=head.commit, tree=head.tree, files=found.files)))
    at_once(store.done())


def test_the_first_change_reads_what_is_new_alone(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "state")
    running(
        store,
        Source(repo.directory, None),
        Stager(Source(repo.directory, None), NOTHING_HERE, lambda: tmp_path),
    )
    source = Source(repo.directory, None)
    stager = Stager(source, NOTHING_HERE, lambda: tmp_path)
    digest = store.running.state.digest
    with store.snapshot() as seen:
        stager.rehearse(seen)
    assert store.running.state.digest == digest
    repo.commit({"tenants/0300.yaml": cluster(300, 81)})
    reads: list[bytes] = []
    read = Objects._read

    def noted(self: Objects, oid: bytes, kind: str) -> bytes:
        reads.append(oid)
        return read(self, oid, kind)

    monkeypatch.setattr(Objects, "_read", noted)
    with store.snapshot() as seen:
        changed = source.changed(seen.tree, source.head().tree)
        staged = asyncio.run(stager.stage(seen.state, changed))
    assert [change.key.name for change in staged.changes] == ["c300/a"]
    before, after = (
        bytes.fromhex(repo.git("rev-parse", f"{commit}:tenants")) for commit in ("HEAD~", "HEAD")
    )
    assert before not in reads
    assert reads.count(after) == 1
    store.close()


def test_nothing_runs_yet(repo: Repo, tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    with store.snapshot() as seen:
        Stager(Source(repo.directory, None), NOTHING_HERE, lambda: tmp_path).rehearse(seen)
    store.close()


def test_what_runs_is_in_no_repository(repo: Repo, tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    source = Source(repo.directory, None)
    stager = Stager(source, NOTHING_HERE, lambda: tmp_path)
    running(store, source, stager)
    other = Repo(tmp_path / "other")
    other.commit({"a.yaml": cluster(1, 1)})
    with store.snapshot() as seen, pytest.raises(RepositoryError):
        Stager(Source(other.directory, None), NOTHING_HERE, lambda: tmp_path).rehearse(seen)
    store.close()
