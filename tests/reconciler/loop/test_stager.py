"""What is looked at on the loop, and what is not; the rehearsal of a change."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.language.suggest import GUESSES_MAX
from reconciler.loop.stager import StagedCommit, Stager
from reconciler.materials.completing import NOTHING_HERE
from reconciler.source.git.objects import Objects
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Changed, Source
from reconciler.storage.reading.running import Running
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


def naming(certificates: int) -> str:
    """Certificates with names of files that somebody has misspelt."""
    names = (f"tls/custmer-{number:05}.example.com" for number in range(certificates))
    return "certificates:\n" + "".join(
        f"  c{at}: {{certificate: {name}.crt, private_key: {name}.key}}\n"
        for at, name in enumerate(names)
    )


async def staged_beside(
    stager: Stager, seen: Running, changed: Changed
) -> tuple[StagedCommit, float]:
    """Stage a change; with it for how long the loop was silent."""
    silent = 0.0

    async def listening() -> None:
        nonlocal silent
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            silent = max(silent, time.monotonic() - began)

    listener = asyncio.ensure_future(listening())
    await asyncio.sleep(0)
    staged = await stager.stage(seen.state, changed)
    await asyncio.sleep(0)
    listener.cancel()
    return staged, silent


@pytest.mark.timed
def test_very_many_files_that_nobody_names_hold_nobody_up(repo: Repo, tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    source = Source(repo.directory, None)
    stager = Stager(source, NOTHING_HERE, lambda: tmp_path)
    running(store, source, stager)
    others = frozenset(f"assets/{number}.svg" for number in range(300_000))
    with store.snapshot() as seen:
        changed = replace(source.changed(seen.tree, source.head().tree), others=others)
        staged, silent = asyncio.run(staged_beside(stager, seen, changed))
    assert not staged.changes
    assert silent < 1
    store.close()


@pytest.mark.timed
def test_names_that_are_misspelt_beside_thousands_hold_nobody_up(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repository")
    files = {f"tls/customer-{number:05}.example.com.pem": "" for number in range(10_000)}
    repo.commit({**files, "a.yaml": cluster(0, 80)})
    store = Store(tmp_path / "state")
    source = Source(repo.directory, None)
    stager = Stager(source, NOTHING_HERE, lambda: tmp_path)
    running(store, source, stager)
    repo.commit({"c.yaml": naming(100)})
    with store.snapshot() as seen:
        changed = source.changed(seen.tree, source.head().tree)
        began = time.process_time()
        staged, silent = asyncio.run(staged_beside(stager, seen, changed))
    assert time.process_time() - began < 15
    assert silent < 2
    hints = [each.hint for each in staged.candidate.diagnostics]
    assert len(hints) == 200
    meant = 'did you mean "tls/customer-'
    assert sum((hint or "").startswith(meant) for hint in hints) == GUESSES_MAX
    store.close()
