"""A plan while the machine is ill: it ends with what the daemon would say to a commit now."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.harness import processes
from tests.harness.daemon import stopped
from tests.reconciler.live import Shop, shop

REFUSED = 6


def filled(directory: Path) -> None:
    with (directory / "filler").open("wb", buffering=0) as opened, contextlib.suppress(OSError):
        while True:
            opened.write(bytes(4096))


def emptied(directory: Path) -> None:
    (directory / "filler").unlink()


def planned(running: Shop, *arguments: str) -> CompletedProcess[str]:
    return running.daemon.run_cli("plan", *arguments)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a directory")
def test_a_full_state_directory_is_what_a_plan_ends_with(tmp_path: Path) -> None:
    running = Shop(tmp_path, workers=1)
    directory = running.daemon.state_dir
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(directory)], check=True)
    try:
        running.start()
        filled(directory)
        running.repo.write(running.files(1))
        # Nobody has tried to write since.
        done = planned(running)
        assert done.returncode == REFUSED, done.stdout
        told = f"The daemon would refuse this now: the state directory {directory} cannot be"
        assert told in done.stderr
        refusal = json.loads(planned(running, "--json").stdout)["refusal"]
        assert refusal["stage"] == "journal"
        commit = running.repo.commit(running.files(1))
        waited = running.daemon.run_cli("wait", "--commit", commit, "--timeout", "2s")
        assert waited.returncode == REFUSED
        assert planned(running, "--ref", "HEAD").returncode == REFUSED
        emptied(directory)
        assert planned(running, "--ref", "HEAD").returncode == 0
        running.daemon.wait(commit)
        # What changes nothing is not refused.
        filled(directory)
        assert "No changes" in planned(running).stdout
        assert planned(running).returncode == 0
        emptied(directory)
    finally:
        running.stop()
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_worker_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        running.repo.write(running.files(1))
        [pid] = running.daemon.worker_pids()
        with stopped(pid):
            processes.wait_until(
                lambda: running.daemon.status()["workers"][0]["state"] == "silent", "it is noticed"
            )
            done = planned(running)
        assert "worker 0: it does not answer" in done.stdout + done.stderr
        assert done.returncode == 0
