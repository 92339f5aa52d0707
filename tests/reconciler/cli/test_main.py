"""`kakehi` as a whole: help, versions, usage errors and their exit code."""

from pathlib import Path

import pytest

from reconciler.cli.commands.version import VERSION
from reconciler.cli.main import COMMANDS, load
from reconciler.cli.parameters import Argument, parameters
from tests.reconciler.cli.program import kakehi


def test_the_version() -> None:
    done = kakehi("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kakehi {VERSION}\n", "")


def test_the_overview_names_every_command() -> None:
    done = kakehi("--help")
    assert done.returncode == 0
    for name, entry in COMMANDS.items():
        assert (f"  {name} " in done.stdout) is not entry.hidden
    assert "\033" not in done.stdout


def test_the_overview_fits_and_names_every_exit_code() -> None:
    done = kakehi("--help")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\n  3  invalid configuration" in done.stdout


def test_no_command_is_a_usage_error_with_help() -> None:
    done = kakehi()
    assert done.returncode == 64
    assert done.stdout == ""
    assert "Usage: kakehi COMMAND" in done.stderr


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_of_a_command_has_examples_and_all_it_takes(name: str) -> None:
    done = kakehi(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nExamples:\n  kakehi " in done.stdout or f"  kakehi {name}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for parameter in parameters(load(name)):
        marker = parameter.marker
        flags = (marker.metavar,) if isinstance(marker, Argument) else marker.flags
        assert all(flag in done.stdout for flag in flags)
        assert marker.help.endswith((".", "…"))


@pytest.mark.parametrize(
    ("line", "first_line", "hint"),
    [
        (("statsu",), "kakehi: there is no command statsu", "did you mean `kakehi status`?"),
        (("--verbose",), "kakehi: there is no option --verbose", None),
        (("--vesion",), "kakehi: there is no option --vesion", "did you mean --version?"),
        (
            ("--json", "status"),
            "kakehi: there is no option --json",
            "options stand behind the command: kakehi status --json",
        ),
        (("plan", "--jsn"), "kakehi plan: there is no option --jsn", "did you mean --json?"),
        (("wait", "--timeout", "soon"), "kakehi wait: --timeout needs a duration", None),
        (("history", "-n", "0"), "kakehi history: --limit must be 1 or more", None),
        (
            ("run", "--runtime-dir", "/tmp/both", "--state-dir", "/tmp/../tmp/both"),
            "kakehi run: /tmp/both cannot be both the runtime and the state directory",
            "give each its own: --runtime-dir, --state-dir",
        ),
        (("run", "--workers", "0"), "kakehi run: --workers must be from 1 to 1024", None),
        (
            ("run", "--workers", "1025"),
            "kakehi run: --workers must be from 1 to 1024",
            None,
        ),
        (
            ("run", "--remote", "origin", "--fetch-interval", "0s"),
            "kakehi run: --fetch-interval must be 1s or more",
            None,
        ),
        (("explain", "http://x/", "-H", "no colon"), "kakehi explain: 'no colon' is not", None),
        (("drain", "shop"), "kakehi drain: 'shop' is not CLUSTER/BACKEND", None),
        (("schema", "route"), "kakehi schema: there is no schema of route", None),
        (("completion", "tcsh"), "kakehi completion: there is no completion for tcsh", None),
    ],
)
def test_usage_errors_exit_with_64(
    line: tuple[str, ...], first_line: str, hint: str | None
) -> None:
    done = kakehi(*line)
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr.startswith(first_line)
    assert "Traceback" not in done.stderr
    if hint:
        assert f"hint: {hint}" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        ("status",),
        ("wait", "--timeout", "1s"),
        ("plan",),
        ("history",),
        ("show",),
        ("explain", "http://x/"),
        ("drain", "a/b"),
        ("undrain", "a/b"),
        ("stop",),
    ],
)
def test_without_a_daemon_a_command_says_so(line: tuple[str, ...], tmp_path: Path) -> None:
    done = kakehi(*line, KAKEHI_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == (8 if line[0] == "wait" else 1)
    assert done.stdout == ""
    assert f"no daemon runs at {tmp_path}/control.sock (start one: kakehi run)" in done.stderr


def test_plan_without_a_daemon_points_to_validate(tmp_path: Path) -> None:
    done = kakehi("plan", "--runtime-dir", str(tmp_path))
    assert "kakehi validate" in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    import subprocess

    from tests.reconciler.cli.program import KAKEHI

    script = f"set -o pipefail; {KAKEHI} schema | head -c 10"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
