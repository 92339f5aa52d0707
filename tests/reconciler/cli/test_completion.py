"""Shell completion: the scripts load in their shells, and the answers know commands and options."""

import subprocess

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
    ("shell", "start"), [("zsh", "#compdef kakehi"), ("fish", "complete --command kakehi")]
)
def test_other_shells_get_a_script_too(shell: str, start: str) -> None:
    assert kakehi("completion", shell).stdout.strip().startswith(start)
