from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import MachineError
from reconciler.workers import spawning


def test_the_first_core_is_given_out_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 2, 9})
    assert spawning.usable_cores() == [4, 9, 2]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert spawning.usable_cores() == [5]


@pytest.mark.parametrize(
    ("cores", "quota", "count"),
    [(1, None, 1), (2, None, 1), (8, None, 7), (8, 2.5, 2), (8, 0.5, 1), (4, 64.0, 3)],
)
def test_auto_leaves_a_core_and_keeps_to_the_quota(
    monkeypatch: pytest.MonkeyPatch, cores: int, quota: float | None, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(spawning, "cpu_quota", lambda: quota)
    assert spawning.automatic_count() == count


def test_the_tightest_quota_on_the_way_up_holds(tmp_path: Path) -> None:
    own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    (tmp_path / own).mkdir(parents=True, exist_ok=True)
    assert spawning.cpu_quota(tmp_path) is None
    (tmp_path / own / "cpu.max").write_text("max 100000\n")
    assert spawning.cpu_quota(tmp_path) is None
    (tmp_path / own / "cpu.max").write_text("150000 100000\n")
    assert spawning.cpu_quota(tmp_path) == 1.5
    if own:
        (tmp_path / "cpu.max").write_text("50000 100000\n")
        assert spawning.cpu_quota(tmp_path) == 0.5


def test_only_a_worker_of_that_number_is_one() -> None:
    assert not spawning.is_worker(os.getpid(), 0)
    assert not spawning.is_worker(2**22 + 1, 0)
    sleeper = [sys.executable, "-c", "import sys, time; time.sleep(60)", "proxy", "--worker=4"]
    with subprocess.Popen(sleeper) as process:
        while b"python" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            pass
        assert spawning.is_worker(process.pid, 4)
        assert not spawning.is_worker(process.pid, 0)
        process.kill()


def test_a_path_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    (deep / "workers").mkdir(parents=True)
    with pytest.raises(MachineError, match="too long for a socket"):
        spawning.spawn(spawning.socket_path(deep, 0), 0, 0)


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot start worker 0: No such file"):
        spawning.spawn(spawning.socket_path(tmp_path, 0), 0, 0)


def test_the_service_managers_words_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("LISTEN_FDS", "1")
    (tmp_path / "workers").mkdir()
    process = spawning.spawn(spawning.socket_path(tmp_path, 0), 0, max(os.sched_getaffinity(0)))
    try:
        variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        names = {each.partition(b"=")[0] for each in variables}
        assert not names & {b"NOTIFY_SOCKET", b"LISTEN_FDS"}
        assert (tmp_path / "workers" / "0.sock").stat().st_mode & 0o777 == 0o600
    finally:
        process.kill()
        process.wait()
