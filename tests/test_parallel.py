"""Sessions of tests side by side, as `tests/run parallel` has them: none takes what another has."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SESSIONS = 3
# More than a session's first block has.
PORTS = 700
# Each holds its ports until all have theirs.
SESSION = f"""
from tests.harness.ports import free_port
print(*(free_port() for _ in range({PORTS})), flush=True)
input()
"""


def test_no_port_is_given_to_two_sessions() -> None:
    sessions = [
        subprocess.Popen(
            [sys.executable, "-c", SESSION],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(SESSIONS)
    ]
    taken: list[str] = []
    for session in sessions:
        assert session.stdout is not None
        taken += session.stdout.readline().split()
    for session in sessions:
        session.communicate("\n", timeout=60)
        assert session.returncode == 0
    assert len(taken) == len(set(taken)) == SESSIONS * PORTS


@pytest.mark.parametrize(
    "end", ["time.sleep(60)", "os.kill(os.getpid(), 9)"], ids=["hang", "crash"]
)
def test_a_test_that_never_ends_is_no_failed_test(tmp_path: Path, end: str) -> None:
    """Those behind it have not run, so that it is no case for a repetition."""
    (tmp_path / "test_a.py").write_text(
        f"import os, time\ndef test_never() -> None: {end}\ndef test_behind() -> None: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path)]
        + ["-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "1", "--dist", "loadfile"]
        + ["--timeout", "2", "--timeout-method", "thread", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR, done.stdout + done.stderr
    assert "gw0 has died in a test" in done.stdout + done.stderr
