"""Nobody reads what the daemon writes to stderr: commits are applied as ever, and status tells."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import control
from tests.harness.daemon import EXECUTABLE
from tests.reconciler.live import Shop, eventually

PIPE_BYTES = 4096
COMMITS = 150


def ask(running: Shop, request: str, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = control.ask(running.daemon.runtime_dir, request, **fields)
    return answer


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[tuple[Shop, int]]:
    """A shop whose daemon and workers share a pipe that nobody reads."""
    made = Shop(tmp_path, workers=1)
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    made.repo.commit(made.files(0))
    made.daemon.process = subprocess.Popen(
        [EXECUTABLE, "run", str(made.repo.directory), "--workers", "1"],
        env=made.daemon.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=write_end,
    )
    os.close(write_end)
    try:
        made.daemon.wait_ready()
        yield made, read_end
    finally:
        made.stop()
        os.close(read_end)


def test_commits_are_applied_and_the_loss_is_told(unread: tuple[Shop, int]) -> None:
    running, read_end = unread
    for number in range(COMMITS):
        refused = running.repo.commit({"broken.yaml": f"clusters: {{x{number}: {{retires: 1}}}}"})
        waited = ask(running, "wait", commit=refused, timeout_s=20.0)
        assert waited["outcome"] == "refused", waited
        good = running.repo.commit({"broken.yaml": None, **running.files(number % 2)})
        waited = ask(running, "wait", commit=good, timeout_s=20.0)
        assert waited["outcome"] == "applied", waited
    assert running.get() == 200
    told = [text for text in ask(running, "status")["warnings"] if "nobody reads" in text]
    assert len(told) == 1
    began = time.monotonic()
    # Somebody reads again.
    os.set_blocking(read_end, False)
    said = b""

    def flows() -> bool:
        nonlocal said
        try:
            said += os.read(read_end, 1 << 16)
        except BlockingIOError:
            return not any("nobody reads" in text for text in ask(running, "status")["warnings"])
        return False

    eventually(flows)
    assert b"lines were dropped" in said
    assert time.monotonic() - began < 20
    running.commit(1)


def test_it_ends_although_nobody_reads(unread: tuple[Shop, int]) -> None:
    running, _ = unread
    for number in range(30):
        refused = running.repo.commit({"broken.yaml": f"clusters: {{x{number}: {{retires: 1}}}}"})
        ask(running, "wait", commit=refused, timeout_s=20.0)
    began = time.monotonic()
    assert running.daemon.interrupt() == 0
    assert time.monotonic() - began < 10
