"""The daemon is told to end while its workers are only being started: nobody is left behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.harness import processes
from tests.reconciler.live import Shop

TRIES = 12
STEP_S = 0.01
ENDING_S = 5.0


def test_no_worker_outlives_a_daemon_that_ends_while_it_spawns(tmp_path: Path) -> None:
    left = []
    for number in range(TRIES):
        made = Shop(tmp_path / str(number), workers=4)
        made.repo.commit(made.files(0))
        made.daemon.start(wait=False)
        process = made.daemon.process
        assert process is not None
        processes.wait_until(lambda made=made: "kakehi runs" in made.daemon.log(), "it runs")
        time.sleep(number * STEP_S)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        # What is on its way to its end may take a moment, on a machine that is busy.
        until = time.monotonic() + ENDING_S
        while made.daemon.left() and time.monotonic() < until:
            time.sleep(STEP_S)
        left += made.daemon.kill()
        made.stop(check=False)
    assert left == []
