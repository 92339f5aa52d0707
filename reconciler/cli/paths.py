"""Where the daemon of this user keeps its sockets and its memory, unless it is told otherwise."""

import os


def control_socket(runtime_dir: str | None) -> str:
    """Return the path of the socket on which the daemon answers the commands."""
    return f"{runtime_directory(runtime_dir)}/control.sock"


def runtime_directory(given: str | None) -> str:
    """Return the directory of the sockets: `--runtime-dir`, or the default of this user."""
    if given:
        return given
    if os.geteuid() == 0:
        return "/run/kakehi"
    return (os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") + "/kakehi"


def state_directory(given: str | None) -> str:
    """Return the directory of journal and snapshot: `--state-dir`, or the default of this user."""
    if given:
        return given
    if os.geteuid() == 0:
        return "/var/lib/kakehi"
    home = os.environ.get("HOME", "")
    return (os.environ.get("XDG_STATE_HOME") or f"{home}/.local/state") + "/kakehi"
