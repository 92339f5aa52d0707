"""Where the daemon of this user keeps its sockets and its memory; where the stored schema is."""

import os
from pathlib import Path


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
    """Return the directory of the state: `--state-dir`, or the default of this user."""
    if given:
        return given
    if os.geteuid() == 0:
        return "/var/lib/kakehi"
    home = os.environ.get("HOME", "")
    return (os.environ.get("XDG_STATE_HOME") or f"{home}/.local/state") + "/kakehi"


def identity_file(given: str | None) -> Path | None:
    """Return the file that opens encrypted keys: `--identity`, or what systemd hands over."""
    if given:
        return Path(given)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    found = Path(credentials, "kakehi.identity") if credentials else None
    return found if found is not None and found.is_file() else None


def stored_schema() -> str:
    """Return the schema of configuration files; to generate it takes ten times as long."""
    import schemas

    place = Path(schemas.__file__).parent / "kakehi.schema.json"
    return place.read_text(encoding="utf-8")
