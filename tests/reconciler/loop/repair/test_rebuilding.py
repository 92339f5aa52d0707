"""The state database written anew, where what stands in its way is the machine."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import durable
from reconciler.loop.repair.rebuilding import Rebuilding
from reconciler.loop.stager import Stager
from reconciler.materials.completing import Machine
from reconciler.source.source import Source
from reconciler.storage import store as module
from reconciler.storage.file.database import DamagedError, Database, UnreadError
from reconciler.storage.reading.header import Recovered
from reconciler.storage.store import Store
from reconciler.workers.linked.worker import Worker
from schemas.changes.state import State
from tests.harness.repo import Repo

CONFIGURATION = "clusters: {shop: {backends: {a: {address: '127.0.0.1:9001'}}}}\n"


class Nobody:
    """No worker serves."""

    in_service: dict[int, Worker] = {}  # noqa: RUF012  # nobody writes to it


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state")
    yield made
    made.close()


def running_by_a_commit(store: Store, repo: Repo) -> Rebuilding:
    """What runs is what the only commit says."""
    repo.commit({"shop.yaml": CONFIGURATION})
    source = Source(repo.directory, "main", None)
    stager = Stager(source, Machine(), lambda: store.materials.directory)
    head = source.head()
    candidate = stager.whole(head.tree)
    entities = [each for each in candidate.desired.values() if each is not None]
    held = Recovered(1, State(entities).digest, head.commit, head.tree)
    store.recover(held, entities, candidate.files)
    return Rebuilding(store, stager, Nobody())


def test_damage_that_is_met_again_is_told_once_and_tried_again(
    store: Store, repo: Repo, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The disk gives back something else than was written, the new file as well."""
    rebuilding = running_by_a_commit(store, repo)
    before = store.running.moment

    def damaging(source: Path, target: Path) -> None:
        durable.rename_durably(source, target)
        target.write_bytes(os.urandom(target.stat().st_size))

    def run() -> bool:
        """At once: what was tried a moment ago is not tried again."""
        rebuilding._not_before = 0.0
        return asyncio.run(rebuilding.run(damage))

    damage = DamagedError("found by somebody")
    with monkeypatch.context() as disk:
        disk.setattr(module, "rename_durably", damaging)
        assert not run()
        assert not run()
    assert rebuilding.problem == str(damage)
    assert not asyncio.run(rebuilding.run(damage))
    assert rebuilding.due() is None
    rebuilding._not_before = 0.0
    assert rebuilding.due() is damage, "what is found in between is not forgotten"
    assert capfd.readouterr().err.count("the state database cannot be written anew") == 1
    assert store.running.moment == before
    assert run()
    assert rebuilding.problem is None
    assert store.running.moment == before
    assert State(store.running.state.values()).digest == before.digest
    store.keep("what others write", "goes on")
    assert store.kept("what others write") == "goes on"


def test_a_disk_that_fails_is_waited_for_and_only_what_does_not_fit_is_damaged(
    store: Store, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilding = running_by_a_commit(store, repo)
    unread = UnreadError("database disk image is malformed")

    def confirmed() -> DamagedError | None:
        return asyncio.run(rebuilding.confirmed(unread))

    def failing(_: Database) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(Database, "read_through", failing)
        with pytest.raises(OSError, match="Input/output"):
            confirmed()
    assert rebuilding.problem == "the state database cannot be read: Input/output error"
    rebuilding._not_before = 0.0
    assert rebuilding.due() is unread, "it is looked at again"
    for _ in range(2):
        assert confirmed() is None
    assert rebuilding.problem is None
    assert any("could not be read for a while" in each for each in store.notes.told())
    # No read has failed, and it is met all the same.
    assert str(confirmed()).startswith("the state database is damaged")
    other = DamagedError("a row is not what was written")
    assert asyncio.run(rebuilding.confirmed(other)) is other
