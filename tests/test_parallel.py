"""Sessions of tests side by side, as `tests/run parallel` has them: none takes what another has."""

import os
import re
import signal
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


def test_the_kernel_chooses_no_port() -> None:
    """It would give a backend's to another test soon, while whoever asked the first still asks."""
    chosen = re.compile(r"(bind|create_server|HTTPServer)\(\(.*, 0\)")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in ("e2e", "faults", "harness")
        for path in sorted((ROOT / "tests" / room).rglob("*.py"))
        for line in path.read_text().splitlines()
        if chosen.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "end", ["time.sleep(60)", "os.kill(os.getpid(), 9)"], ids=["hang", "crash"]
)
def test_a_test_that_never_ends_is_no_failed_test(tmp_path: Path, end: str) -> None:
    """Those behind it have not run, so that it is no case for a repetition."""
    (tmp_path / "test_a.py").write_text(
        f"import os, time\ndef test_never() -> None: {end}\ndef test_behind() -> None: pass\n"
    )
    done = session(tmp_path, "--timeout", "2", "--timeout-method", "thread")
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR, done.stdout + done.stderr
    assert "gw0 has died in a test" in done.stdout + done.stderr


def test_what_a_test_starts_finds_its_modules_compiled(tmp_path: Path) -> None:
    """Whatever the machine says, or a daemon would compile all of its modules at each start."""
    (tmp_path / "test_a.py").write_text(
        "import subprocess, sys\n"
        "def test_kept() -> None:\n"
        "    asked = [sys.executable, '-c', 'import sys; sys.exit(sys.dont_write_bytecode)']\n"
        "    assert not sys.dont_write_bytecode\n"
        "    assert subprocess.run(asked).returncode == 0\n"
    )
    done = session(tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stdout + done.stderr


def session(tests: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A session of its own, with the conftest of this one; if it hangs, it says where.

    Its temporary directories are its own too: among those of all sessions it would delete what
    earlier ones have left before it says how it ended, and that may take a minute.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tests)]
        + ["--basetemp", str(tests / "temporary")]
        + ["-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "1", "--dist", "loadfile"]
        + [*options, str(tests)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            output, errors = running.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            # pytest has Python's own handler of it, which writes where each thread is.
            running.send_signal(signal.SIGABRT)
            output, errors = running.communicate()
            pytest.fail(f"it has not ended:\n{output}{errors}")
    return subprocess.CompletedProcess(running.args, running.returncode, output, errors)
