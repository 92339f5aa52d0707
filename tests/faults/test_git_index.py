"""Git's index, which a daemon does not need: whatever it is, commits are followed and served."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.daemon import Kakehi
from tests.reconciler.live import shop


def empty(repository: Path) -> None:
    os.truncate(repository / ".git/index", 0)


def directory(repository: Path) -> None:
    (repository / ".git/index").unlink()
    (repository / ".git/index").mkdir()


def pipe(repository: Path) -> None:
    (repository / ".git/index").unlink()
    os.mkfifo(repository / ".git/index")


def pipe_of_patterns(repository: Path) -> None:
    """Whoever reads it waits for somebody who writes."""
    os.mkfifo(repository / ".gitignore")


@pytest.mark.parametrize("damage", [empty, directory, pipe, pipe_of_patterns])
def test_a_daemon_starts_and_tells(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with shop(tmp_path, workers=1) as running:
        place = running.repo.directory
        running.leave()
        damage(place)
        running.daemon.start()
        assert running.get() == 200
        assert "it is not known what is not committed: " in running.daemon.log()
        if damage is empty:
            said = running.daemon.run_cli("plan")
            assert said.returncode == 1
            assert "git's index cannot be read: " in said.stderr
            assert "git reset" in said.stderr
            assert "an error in Kakehi itself" not in said.stderr


def test_a_split_index_is_read(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        running.leave()
        running.repo.git("update-index", "--split-index")
        running.repo.write({"settings.yaml": "settings: {drain_timeout: 1s, access_log: off}\n"})
        daemon: Kakehi = running.daemon
        daemon.start()
        assert "kakehi run: 1 file differs from main: settings.yaml" in daemon.log()
        said = daemon.run_cli("plan")
        assert "drain_timeout" in said.stdout, said
