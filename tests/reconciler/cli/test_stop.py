"""`kakehi stop` beside another one: both return when all is over."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.harness import processes
from tests.harness.daemon import EXECUTABLE
from tests.reconciler.live import Shop


def stopping(shop: Shop) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [EXECUTABLE, "stop", "--timeout", "40s"],
        env=shop.daemon.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_at_once_both_wait_for_workers_without_a_daemon(tmp_path: Path) -> None:
    shop = Shop(tmp_path, workers=1)
    try:
        shop.start()
        [worker] = shop.daemon.worker_pids()
        shop.crash()
        processes.stop(worker)
        both = [stopping(shop), stopping(shop)]
        processes.pause(3)
        assert [each.poll() for each in both] == [None, None]
        os.kill(worker, signal.SIGCONT)
        for each in both:
            told, _ = each.communicate(timeout=45)
            assert each.returncode == 0, told
            assert "The proxy has ended: no worker is left." in told
    finally:
        shop.stop(check=False)
