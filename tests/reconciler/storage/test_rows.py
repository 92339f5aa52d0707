"""The audit of all rows: damage that nobody would come upon for weeks."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.catalog.relations import relations_of
from reconciler.storage import rows as module
from reconciler.storage.file.database import FILE_NAME, DamagedError
from reconciler.storage.kept.history import History
from reconciler.storage.rows import RowAudit
from reconciler.storage.store import Store
from schemas.entities.entity import Entity, EntityKey, Mark
from tests.harness.daemon import EXECUTABLE
from tests.reconciler.building import entity, frontend
from tests.reconciler.entities import at_once
from tests.reconciler.entities import run as apply
from tests.reconciler.live import Shop, eventually, serves, shop
from tests.reconciler.storage.kept.test_history import entry as told

MANY = 450


def whole() -> list[Entity]:
    return [
        entity("settings", "settings"),
        entity("listener", "public", address="127.0.0.1:8080"),
        entity("cluster", "shop"),
        *(frontend(f"f{number:03}", hostname=f"h{number}.test") for number in range(MANY)),
    ]


def audited(store: Store) -> None:
    """One way through."""
    asyncio.run(RowAudit(store, relations_of, lambda _: None).walk())


def altered(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        connection.execute(statement)
        connection.commit()


DAMAGES = {
    "a value": (
        "UPDATE entities SET value = replace(value, 'h400.test', 'h401.test') WHERE name = 'f400'",
        'frontend "f400" is not what was written',
    ),
    "in which file it is written": (
        "UPDATE entities SET file = 'b' || substr(file, 2) WHERE name = 'f400'",
        'frontend "f400" is not what was written',
    ),
    "at which line it is written": (
        "UPDATE entities SET line = line + 1 WHERE name = 'f400'",
        'frontend "f400" is not what was written',
    ),
    "a row that is gone": ("DELETE FROM entities WHERE name = 'f007'", "entities are missing"),
    "a relation": (
        "UPDATE relations SET term = 'h1.test' WHERE relation = 'host' AND term = 'h0.test'",
        'frontend "f000" is not among what is related by host',
    ),
    "a count": (
        "UPDATE counts SET number = 7 WHERE kind = 'frontend'",
        "entities are missing, or too many",
    ),
    "what a file defines": (
        "UPDATE files SET defines = replace(defines, '3', '4')",
        "what a.yaml defines is not what was written",
    ),
    "the history": (
        "UPDATE history SET entry = replace(entry, 'applied', 'refused')",
        "an entry of the history is not what was written",
    ),
    "a note": (
        "UPDATE relations SET note = '+' WHERE relation = 'match' AND name = 'f449'",
        "is not among what is related by match",
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path, relations_of)
    apply(made, whole())
    marks = {EntityKey("frontend", "f000"): Mark(b"hash", 3, 1)}
    at_once(made.follow("0" * 40, "0" * 40, (), "2026-01-01", {"a.yaml": marks}))
    History(made).add(told("0" * 40))
    return made


def test_what_is_as_it_was_written(store: Store) -> None:
    audited(store)
    store.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(store: Store, tmp_path: Path, damage: str) -> None:
    statement, told = DAMAGES[damage]
    altered(tmp_path, statement)
    with pytest.raises(DamagedError, match=told):
        audited(store)
    store.close()


def test_what_a_version_wrote_without_its_places_gets_a_sum_of_these(
    store: Store, tmp_path: Path
) -> None:
    digest = store.running.state.digest
    store.close()
    # The hash of a row was that of its content alone.
    altered(tmp_path, "UPDATE entities SET hash = CAST(substr(hash, 1, 16) AS BLOB)")
    altered(tmp_path, "PRAGMA user_version=3")
    again = Store(tmp_path, relations_of)
    assert again.running.state.digest == digest
    audited(again)
    altered(tmp_path, DAMAGES["in which file it is written"][0])
    with pytest.raises(DamagedError):
        audited(again)
    again.close()


def test_a_commit_within_it_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.2)

    async def both() -> None:
        walking = asyncio.create_task(RowAudit(store, relations_of, lambda _: None).walk())
        await asyncio.sleep(0.3)
        apply(store, [frontend("a-new-one")], (EntityKey("frontend", "f000"),))
        await walking

    asyncio.run(both())
    audited(store)
    store.close()


def test_a_daemon_that_finds_damage_mends_it_from_the_commit_that_runs(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from reconciler.daemon import options, starting\n"
        "from reconciler.storage import rows\n"
        "from reconciler.workers.processes.forking import zygote\n"
        "rows.FIRST_S, rows.EVERY_S = 1.0, 0.5\n"
        "code = starting.run(options.DaemonOptions(Path(sys.argv[1]), None, 1,"
        " Path(sys.argv[2]), Path(sys.argv[3])))\n"
        "zygote.end()\n"
        "sys.exit(code)"
    )
    running = Shop(tmp_path, workers=1)
    daemon = running.daemon
    try:
        sha = running.repo.commit(running.files(0))
        with daemon.output.open("ab") as output:
            daemon.process = subprocess.Popen(
                [
                    *(Path(EXECUTABLE).parent / "python", "-c", script),
                    *(running.repo.directory, daemon.runtime_dir, daemon.state_dir),
                ],
                env=daemon.environment,
                stdout=output,
                stderr=output,
            )
        eventually(lambda: serves(running))
        daemon.wait(sha)
        digest = daemon.status()["digest"]
        altered(daemon.state_dir, "UPDATE entities SET value = '{}' WHERE kind = 'frontend'")
        told = 'the state database is damaged: frontend "web" is not what was written'
        eventually(lambda: told in daemon.log())
        eventually(lambda: "is written anew from the commit that runs" in daemon.log())
        eventually(lambda: daemon.status()["warnings"] == [])
        assert daemon.status()["digest"] == digest
        assert running.served_by() == 0
        assert daemon.json("show", "frontend/web")["entities"][0]["value"]["cluster"] == "shop"
        running.commit(1)
        assert running.served_by() == 1
    finally:
        running.stop()


def test_a_database_older_than_what_was_applied_is_told(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        daemon = running.daemon
        assert daemon.interrupt() == 0
        backup = tmp_path / "backup"
        shutil.copytree(daemon.state_dir, backup)
        old = running.repo.head()
        daemon.start()
        new = running.commit(1)
        assert daemon.interrupt() == 0
        shutil.rmtree(daemon.state_dir)
        shutil.move(backup, daemon.state_dir)
        daemon.start()
        log = daemon.log()
        assert "is older than the repository's refs/kakehi/applied" in log
        assert f"it has {old[:12]}, and {new[:12]} was applied after it" in log
        assert running.served_by() == 1
        # The newest commit is applied again, and what else was recorded is not.
        [warning] = daemon.status()["warnings"]
        assert "history and drains since then are lost" in warning
