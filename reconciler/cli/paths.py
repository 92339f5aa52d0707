"""Where the daemon of this user keeps its sockets and its memory, unless it is told otherwise."""

import os
from pathlib import Path


def runtime_directory(given: str | None) -> Path:
    """Return the directory of the sockets: `--runtime-dir`, or the default of this user."""
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/run/kakehi")
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return Path(base) / "kakehi"


def state_directory(given: str | None) -> Path:
    """Return the directory of journal and snapshot: `--state-dir`, or the default of this user."""
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/kakehi")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "kakehi"
