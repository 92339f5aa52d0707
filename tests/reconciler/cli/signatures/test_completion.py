"""Shell completion: the scripts load in their shells, and the answers know commands and options."""

import os
import pty
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.reconciler.cli.program import KAKEHI, kakehi


def answer(words: str, position: int) -> list[str]:
    done = kakehi(_KAKEHI_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(position))
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_are_completed_and_hidden_ones_are_not() -> None:
    assert answer("kakehi st", 1) == ["status", "stop"]
    assert answer("kakehi dem", 1) == []


def test_options_are_completed() -> None:
    assert answer("kakehi plan --det", 2) == ["--detailed-exitcode"]
    assert answer("kakehi wait --", 2) == [
        "--commit",
        "--timeout",
        "--json",
        "--runtime-dir",
        "--help",
    ]


def test_the_script_completes_in_bash() -> None:
    script = (
        f'eval "$({KAKEHI} completion bash)"; COMP_WORDS=(kakehi un); COMP_CWORD=1; '
        f'PATH="$(dirname {KAKEHI}):$PATH"; _kakehi_completion kakehi; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("undrain\n", "")


@pytest.mark.parametrize(
    ("shell", "start"), [("zsh", "#compdef kakehi\n"), ("fish", "complete --command kakehi")]
)
def test_other_shells_get_a_script_too(shell: str, start: str) -> None:
    assert kakehi("completion", shell).stdout.startswith(start)


def test_the_script_completes_in_fish() -> None:
    script = f"{KAKEHI} completion fish | source; complete -C 'kakehi un'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env={**os.environ, "PATH": f"{Path(KAKEHI).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["undrain"], done.stderr


def test_the_first_tab_completes_in_zsh(tmp_path: Path) -> None:
    (tmp_path / "_kakehi").write_text(kakehi("completion", "zsh").stdout)
    start = (
        f"PS1= PATH={Path(KAKEHI).parent}:$PATH; fpath=({tmp_path} $fpath); "
        f"autoload -U compinit; compinit -u -d {tmp_path}/dump; echo lo''aded\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        os.write(terminal, start.encode())
        read_until(terminal, "loaded")
        os.write(terminal, b"kakehi und\t")
        # zsh writes the word anew when it has completed it.
        read_until(terminal, "rain", "undrain")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, *any_of: str) -> None:
    """Read a terminal until one of the texts was written."""
    said = ""
    while not any(text in said for text in any_of):
        assert select.select([terminal], [], [], 30)[0], said
        said += os.read(terminal, 4096).decode(errors="replace")
