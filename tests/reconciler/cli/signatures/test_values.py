"""Completion of values: kinds and subjects without a daemon, names from one that runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.signatures.values import ANSWER_WITHIN_S
from tests.reconciler.cli.program import kakehi
from tests.reconciler.live import Shop, shop


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop"), workers=1) as made:
        yield made


def completed(line: str, shell: str = "bash", **environment: str) -> list[str]:
    done = kakehi(
        _KAKEHI_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS=line,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        COMP_WORDS=line,
        COMP_CWORD=str(line.count(" ")),
        **environment,
    )
    assert done.stderr == ""
    return done.stdout.split()


def in_shop(running: Shop, line: str, shell: str = "bash") -> list[str]:
    return completed(line, shell, KAKEHI_RUNTIME_DIR=str(running.daemon.runtime_dir))


def test_what_needs_no_daemon() -> None:
    assert completed("kakehi schema f") == ["frontend"]
    assert completed("kakehi schema st") == ["status"]
    assert completed("kakehi completion ") == ["bash", "zsh", "fish"]
    assert completed("kakehi show c") == ["certificate", "cluster"]


def test_without_a_daemon_there_are_no_names_and_no_words_about_it(tmp_path: Path) -> None:
    for line in ("kakehi drain ", "kakehi undrain ", "kakehi show frontend/"):
        assert completed(line, KAKEHI_RUNTIME_DIR=str(tmp_path)) == []


def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "control.sock"))
        silent.listen()
        began = time.monotonic()
        assert completed("kakehi drain ", KAKEHI_RUNTIME_DIR=str(tmp_path)) == []
        assert time.monotonic() - began < ANSWER_WITHIN_S + 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_come_from_the_daemon(running: Shop, shell: str) -> None:
    assert any("shop/one" in each for each in in_shop(running, "kakehi drain sh", shell))


def test_names_of_entities(running: Shop) -> None:
    assert in_shop(running, "kakehi drain x") == []
    assert in_shop(running, "kakehi show fr") == ["frontend", "frontend/web"]
    assert in_shop(running, "kakehi show backend/") == ["backend/shop/one"]
    assert in_shop(running, "kakehi undrain ") == []
    running.daemon.run_cli("drain", "shop/one", check=True)
    assert in_shop(running, "kakehi undrain ") == ["shop/one"]


def test_the_runtime_directory_may_stand_in_the_line(running: Shop) -> None:
    line = f"kakehi drain --runtime-dir {running.daemon.runtime_dir} "
    assert completed(line) == ["shop/one"]
