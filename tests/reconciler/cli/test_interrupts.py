"""Ctrl-C at any moment of a command: no traceback, and nothing goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tests.harness.ports import address
from tests.harness.repo import Repo

STEP_S = 0.003
ENDS_S = 20.0
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what an installer makes of the entry point, whatever this environment has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["kakehi"].partition(":")
    made = tmp_path_factory.mktemp("bin") / "kakehi"
    made.write_text(
        f"#!{sys.executable}\nimport sys\nfrom {module} import {name}\nsys.exit({name}())\n"
    )
    made.chmod(0o755)
    return made


def is_ours(said: str) -> bool:
    """Tell whether Python had come beyond our first line: what is before that is its own."""
    frames = [line for line in said.splitlines() if line.lstrip().startswith("File ")]
    return any(f'"{ROOT}/{each}/' in line and FIRST not in line for line in frames for each in OURS)


FIRST = "/reconciler/cli/program.py"
OURS = ("reconciler", "schemas", "proxy", "routing")


@pytest.mark.parametrize(("command", "starts"), [("run", 100), ("plan", 50), ("--help", 30)])
def test_ctrl_c_at_any_moment_of_a_start_ends_without_a_traceback(
    command: str, starts: int, script: Path, tmp_path: Path
) -> None:
    """To all of the terminal's process group, k × 3 ms behind the start."""
    repo = Repo(tmp_path / "shop")
    listener = {"web": {"address": address()}}
    repo.commit({"a.yaml": {"listeners": listener, "settings": {"workers": 1}}})
    line = [command] if command == "--help" else [command, str(repo.directory)]
    codes = set()
    for number in range(starts):
        own = tmp_path / str(number)
        own.mkdir()
        environment = {"KAKEHI_RUNTIME_DIR": str(own / "r"), "KAKEHI_STATE_DIR": str(own / "s")}
        said = own / "said"
        with said.open("wb") as written:
            process = subprocess.Popen(
                [sys.executable, str(script), *line],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=written,
                env={**os.environ, **environment},
                process_group=0,
            )
        try:
            time.sleep(number * STEP_S)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            codes.add(process.wait(ENDS_S))
        finally:
            process.kill()
            process.wait()
        text = said.read_text()
        if "Traceback" in text or "KeyboardInterrupt" in text:
            assert not is_ours(text), f"after {number * STEP_S:.3f} s: {text}"
    assert -signal.SIGINT in codes


def test_what_ignores_it_goes_on(script: Path, tmp_path: Path) -> None:
    """As in the background of a script: a shell starts it so."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"trap '' INT; kill -INT $$; '{sys.executable}' -c \"{IGNORING}\""],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("Handlers.SIG_IGN\n", "")


IGNORING = "import reconciler.cli.program, signal; print(repr(signal.getsignal(2))[1:17])"
