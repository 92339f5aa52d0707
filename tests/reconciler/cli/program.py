"""Runs `kakehi` as users do: as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

KAKEHI = os.environ.get("KAKEHI_BIN", str(Path(sys.prefix) / "bin" / "kakehi"))


def kakehi(
    *line: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line and return its exit code and what it printed."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KAKEHI_RUNTIME", "KAKEHI_STATE", "XDG_"))
    }
    return subprocess.run(
        [KAKEHI, *line],
        cwd=cwd,
        env={**plain, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
