"""Whatever stdout and stderr are, a command ends by its own code and without a traceback."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from reconciler.cli.main import COMMANDS, load
from reconciler.cli.parameters import parameters
from tests.harness.repo import Repo
from tests.reconciler.cli.program import KAKEHI, kakehi

LINES = [
    "--help",
    "--version",
    "plan --help",
    "schema",
    "schema status",
    "completion bash",
    "validate .",
    "validate . --json",
]


def in_shell(script: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_one_that_nobody_reads(
    line: str, closed: str, shop: Repo
) -> None:
    done = in_shell(f"{KAKEHI} {line} {closed}", shop.directory)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_told_once(line: str, unbuffered: str, shop: Repo) -> None:
    done = in_shell(f"{KAKEHI} {line} >/dev/full", shop.directory, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.endswith(": stdout: no space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("line", LINES)
def test_a_full_stderr_changes_nothing(line: str, shop: Repo) -> None:
    shop.write({"bad.yaml": "x: 1"})
    code = 3 if "validate" in line else 0
    assert in_shell(f"{KAKEHI} {line} >&2 2>/dev/full", shop.directory).returncode in (code, 1)
    assert in_shell(f"{KAKEHI} {line} 2>/dev/full", shop.directory).returncode == code


@pytest.mark.parametrize("line", [*LINES, "validate bad", "validate bad --json"])
def test_what_an_encoding_has_not_is_escaped(line: str, shop: Repo) -> None:
    shop.write({"bad/größe.yaml": "clusters: {a: {größe: 1}}\n"})
    environment = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = in_shell(f"{KAKEHI} {line}", shop.directory, **environment)
    assert "Traceback" not in done.stderr
    assert done.stdout.isascii()
    assert done.stderr.isascii()
    if "--json" in line:
        found = json.loads(done.stdout)["diagnostics"]
        assert not found or found[0]["file"].endswith("größe.yaml")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in COMMANDS
        if any(parameter.name == "as_json" for parameter in parameters(load(name)))
    ],
)
def test_with_json_a_failure_is_json_too(name: str, tmp_path: Path) -> None:
    subject = {"drain": ["a/b"], "undrain": ["a/b"], "explain": ["http://x/"]}.get(name, [])
    given = ["--timeout", "0s"] if name == "wait" else []
    missing = str(tmp_path / "nowhere")
    if name == "validate":
        subject, environment = [missing], {}
    else:
        environment = {"KAKEHI_RUNTIME_DIR": missing}
    done = kakehi(name, *subject, *given, "--json", **environment)
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.returncode != 0
    assert error["message"] in done.stderr
    done = kakehi(name, "--json", "--no-such-option")
    assert json.loads(done.stdout)["error"]["exit_code"] == done.returncode == 64


def on_terminal(columns: int, *line: str) -> str:
    """Return what a command writes to a terminal of so many columns."""
    script = f"stty cols {columns}; exec {KAKEHI} {' '.join(line)}"
    written = bytearray()
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execvpe("sh", ["sh", "-c", script], {**os.environ, "NO_COLOR": "1", "TERM": "xterm"})
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(descriptor)
    os.waitpid(pid, 0)
    return written.decode().replace("\r\n", "\n")


def test_nothing_is_wider_than_the_terminal(shop: Repo) -> None:
    long = "x" * 30
    entity = f"{{{long}: 1, backends: {{b: {{address: '${{X}}:1'}}}}, c: 1}}"
    shop.write({"bad.yaml": f"clusters: {{a: {entity}}}"})
    text = on_terminal(80, "validate", str(shop.directory))
    assert max(map(len, text.splitlines())) <= 80
    assert "^" in text
    said = kakehi("validate", str(shop.directory)).stderr
    assert sentences(text) == sentences(said)


def sentences(text: str) -> list[str]:
    """Return the words of all lines but the excerpts of files, which are cut."""
    return [word for line in text.splitlines() if " | " not in line for word in line.split()]
