"""The daemon is killed while a load is written that is too large for one process."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.killing import LONG, applying

# It has hundreds of calls, most of them pages of the same file.
STEPS = 100 if LONG else 8


def test_a_kill_within_a_large_load_leaves_one_generation(tmp_path: Path) -> None:
    with applying(tmp_path, large=True) as one:
        calls = one.count()
        assert calls > 200, "rows are written by the page"
        killed = [one.kill_at(call, by_half=False) for call in range(1, calls, calls // STEPS)]
        assert sum(killed) > len(killed) // 2


def test_who_loads_for_a_dead_daemon_takes_nothing_along(tmp_path: Path) -> None:
    with applying(tmp_path, large=True) as one:
        site = one.site
        for later_s in (0.0, 0.1):
            site.repo.commit(one.files())
            loader = await_loader(site.daemon.pid)
            time.sleep(later_s)
            os.kill(site.daemon.pid, signal.SIGKILL)
            site.daemon.await_end()
            await_end_of(loader)
            site.daemon.return_()
            site.running()
            assert "of the state database" not in site.daemon.log(), later_s


def await_loader(daemon: int) -> int:
    """The process that loads, as soon as there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split():
            with suppress(OSError):
                if b"large.loader" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
    raise AssertionError("nobody loads")


def await_end_of(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
                continue
        return
    raise AssertionError("it goes on loading for nobody")
