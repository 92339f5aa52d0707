"""A process that loads a large commit and hangs: told, given up for a newer commit, replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.reconciler.live import Shop, eventually, shop

MANY = 1_200


def large(running: Shop) -> dict[str, Any]:
    """More files than are staged within the daemon."""
    files: dict[str, Any] = running.files()
    for number in range(MANY):
        files[f"many/{number}.yaml"] = {
            "frontends": {
                f"f{number}": {
                    "listeners": ["public"],
                    "cluster": "shop",
                    "hostname": f"h{number}.test",
                }
            }
        }
    return files


def loader(running: Shop) -> int | None:
    for thread in Path(f"/proc/{running.pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            if b"reconciler.loop.large.loader" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


@contextmanager
def stopped_load(running: Shop) -> Iterator[str]:
    """A large commit whose loader is stopped."""
    commit = running.repo.commit(large(running))
    eventually(lambda: loader(running) is not None)
    pid = loader(running)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield commit
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGCONT)


def test_a_newer_commit_is_not_held_up(tmp_path: Path) -> None:
    with shop(tmp_path, 1) as running, stopped_load(running):
        began = time.monotonic()
        running.commit(1)
        assert time.monotonic() - began < 15
        assert running.served_by() == 1
        assert "a newer commit is there" in running.daemon.log()
        assert running.daemon.generation == 2


def test_one_that_hangs_is_told_and_replaced(tmp_path: Path) -> None:
    with shop(tmp_path, 1) as running, stopped_load(running) as commit:
        eventually(lambda: "the process that loads does nothing" in running.daemon.log())
        told = running.daemon.run_cli("status")
        assert "nothing has happened for" in told.stdout
        running.daemon.wait(commit, 120)
        assert running.get() == 200
        assert "has done nothing for 30 s" in running.daemon.log()
