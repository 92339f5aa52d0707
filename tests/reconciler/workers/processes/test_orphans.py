"""Workers that serve without a daemon: what is said of them, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reconciler.live import Shop


def test_workers_without_a_daemon_are_told_of_and_ended(tmp_path: Path) -> None:
    running = Shop(tmp_path)
    daemon = running.daemon
    try:
        running.start()
        pids = daemon.worker_pids()
        assert running.leave() == 0
        told = daemon.run_cli("status")
        assert (told.returncode, running.get()) == (1, 200)
        processes = ", ".join(map(str, pids))
        assert f"2 workers go on serving without it (process {processes})" in told.stderr
        assert "kakehi run" in told.stderr
        assert "kakehi stop" in told.stderr
        daemon.start()
        assert daemon.worker_pids() == pids, "they were taken over"
        running.crash()
        ended = daemon.run_cli("stop", check=True)
        assert "No daemon ran; 2 workers went on serving and were ended." in ended.stderr
        assert daemon.kill() == []
        with pytest.raises(ConnectionRefusedError):
            running.get()
        again = daemon.run_cli("stop")
        assert (again.returncode, "is gone" in again.stderr) == (1, True)
    finally:
        running.stop(check=False)
