"""The state database damaged while the daemon runs or rests, wherever in it: mended, and told.

What is damaged decides who comes upon it, and when: a start, a commit, `status`, an audit. None of
them may keep the daemon from starting, from taking commits, or from answering.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.killing import LONG
from tests.harness import control, processes
from tests.reconciler.live import Shop, shop

PAGE = 4096


def the_settings(path: Path) -> None:
    """Valid pages, and a value that is not what was written."""
    with closing(sqlite3.connect(path)) as connection:
        query = "UPDATE entities SET value = CAST(value || ' ' AS BLOB) WHERE kind = 'settings'"
        assert connection.execute(query).rowcount == 1
        connection.commit()


def pages_for_noise(path: Path) -> None:
    overwrite(path, 5000, b"\xff" * 9000)


def pages_for_zeros(path: Path) -> None:
    overwrite(path, PAGE, bytes(3 * PAGE))


def overwrite(path: Path, place: int, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, content, place)
    finally:
        os.close(descriptor)


def leave_all_in_the_file(running: Shop) -> None:
    """An end in order copies the log of the database into it."""
    assert running.leave() == 0
    running.daemon.start()


def crash(running: Shop, *, workers: bool) -> None:
    pids = running.daemon.worker_pids()
    running.crash()
    if workers:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        processes.await_end(pids)


def serves_the_next(running: Shop, backend: int) -> None:
    """A commit is taken, and `status` and the next plan have nothing to say of damage."""
    running.commit(backend)
    assert running.served_by() == backend
    status = running.daemon.status()
    assert status["source"]["problem"] is None
    assert status["entities"]["backend"] == 1
    assert control.ask(running.daemon.runtime_dir, "plan")["plan"]["changes"] == []
    assert "Traceback" not in running.daemon.log()


@pytest.mark.parametrize("workers_too", [False, True], ids=["workers_serve", "nobody_serves"])
@pytest.mark.parametrize(
    "damage", [the_settings, pages_for_noise, pages_for_zeros], ids=lambda each: each.__name__
)
def test_a_start_meets_it(
    tmp_path: Path, damage: Callable[[Path], None], workers_too: bool
) -> None:
    with shop(tmp_path, 1) as running:
        running.commit(1)
        leave_all_in_the_file(running)
        crash(running, workers=workers_too)
        said = len(running.daemon.log())
        damage(running.daemon.state_dir / "state.db")
        running.daemon.start()
        assert running.served_by() == 1
        assert "the state database is damaged" in running.daemon.log()[said:]
        serves_the_next(running, 0)


def test_pages_are_lost_while_it_runs(tmp_path: Path) -> None:
    with shop(tmp_path, 1) as running:
        leave_all_in_the_file(running)
        pages_for_zeros(running.daemon.state_dir / "state.db")
        for backend in (1, 0, 1):
            serves_the_next(running, backend)
        assert "is written anew" in running.daemon.log()


@pytest.mark.parametrize("is_new_commit", [True, False], ids=["by_a_commit", "by_itself"])
def test_what_is_lost_below_a_full_log_is_met_while_it_runs(
    tmp_path: Path, is_new_commit: bool
) -> None:
    """What a commit reads is in the log, of commits before it: none of it is in the file."""
    with shop(tmp_path, 1) as running:
        for backend in (1, 0, 1):
            running.commit(backend)
        leave_all_in_the_file(running)
        for backend in (0, 1, 0, 1):
            running.commit(backend)
        zeroed(running.daemon.state_dir / "state.db")
        if not is_new_commit:
            processes.wait_until(
                lambda: "is written anew" in running.daemon.log(), "it is noticed", 10
            )
        for backend in (0, 1, 0):
            serves_the_next(running, backend)
        crash(running, workers=True)
        running.daemon.start()
        assert running.served_by() == 0


def test_the_log_is_cut_off_while_it_runs(tmp_path: Path) -> None:
    with shop(tmp_path, 1) as running:
        for backend in (1, 0, 1):
            running.commit(backend)
        os.truncate(running.daemon.state_dir / "state.db-wal", 30_000)
        for backend in (0, 1):
            serves_the_next(running, backend)
        drained = running.daemon.run_cli("drain", "shop/one")
        assert drained.returncode == 0, drained.stderr
        assert "internal error" not in running.daemon.log()


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    overwrite(path, 0, bytes(path.stat().st_size))


def unlinked(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(random.Random(1).randbytes(path.stat().st_size))
    fresh.rename(path)


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
@pytest.mark.parametrize(
    "damage", [emptied, halved, zeroed, unlinked, replaced], ids=lambda each: each.__name__
)
def test_a_file_of_it_is_cut_off_or_taken_away_while_it_runs(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    """The index of the log is mapped: who reads behind its end is ended by a signal."""
    with shop(tmp_path, 1) as running:
        for backend in (1, 0, 1):
            running.commit(backend)
        pid = running.pid
        damage(running.daemon.state_dir / name)
        for backend in (0, 1, 0):
            serves_the_next(running, backend)
        if name.endswith("-shm") and damage in (emptied, halved):
            assert "index of the state database's log was cut off" in running.daemon.log()
        assert running.pid == pid and running.daemon.process is not None
        assert running.daemon.process.poll() is None
        # What a start finds is what was written since.
        crash(running, workers=True)
        running.daemon.start()
        assert running.served_by() == 0
        serves_the_next(running, 1)


def damaged(content: bytes, chance: random.Random) -> tuple[str, int, bytes | None]:
    """What becomes of a file: a word for it, where, and the bytes (None: it ends there)."""
    place = chance.randrange(len(content))
    match chance.choice(["bit", "zeros", "noise", "end"]):
        case "bit":
            return "bit", place, bytes([content[place] ^ 1 << chance.randrange(8)])
        case "zeros":
            return "zeros", place, bytes(chance.choice([16, 512, PAGE]))
        case "noise":
            return "noise", place, chance.randbytes(chance.choice([64, PAGE, 9000]))
        case _:
            return "end", place, None


@pytest.mark.parametrize("rests", [True, False], ids=["at_rest", "in_service"])
def test_wherever_it_is(tmp_path: Path, rests: bool) -> None:
    """By seeds, each printed; more of them in the long run."""
    with shop(tmp_path, 1) as running:
        leave_all_in_the_file(running)
        for seed in range(60 if LONG else 8):
            chance = random.Random(seed)
            backend = seed % 2
            running.commit(backend)
            if rests:
                crash(running, workers=chance.random() < 0.5)
            names = ["state.db", "state.db-wal"]
            path = running.daemon.state_dir / chance.choice(names)
            if not path.exists() or not path.stat().st_size:
                path = running.daemon.state_dir / "state.db"
            kind, place, content = damaged(path.read_bytes(), chance)
            print(f"seed {seed}: {kind} at {place} of {path.name}")
            if content is None:
                os.truncate(path, place)
            else:
                overwrite(path, place, content[: path.stat().st_size - place])
            if rests:
                running.daemon.start()
                assert running.served_by() == backend
            serves_the_next(running, 1 - backend)
