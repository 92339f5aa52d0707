"""Sessions of tests side by side, as `tests/run parallel` has them: none takes what another has."""

import subprocess
import sys
from pathlib import Path

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
