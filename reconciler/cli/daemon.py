"""Speaks to the daemon for a command, and turns its errors into exit codes."""

from pathlib import Path
from typing import Any

from reconciler import control_client
from reconciler.cli.exits import FAILED, INVALID, TIMEOUT, USAGE, CommandError
from reconciler.cli.paths import runtime_directory
from schemas.control import Request

CODES = {"usage": USAGE, "invalid": INVALID, "timeout": TIMEOUT}
"""The exit code of each `schemas.control.ErrorCode`; those that are not here are FAILED."""


def ask(runtime_dir: str | None, request: Request, timeout_s: float = 30.0) -> dict[str, Any]:
    """Send one request to the daemon and return its result."""
    directory: Path = runtime_directory(runtime_dir)
    try:
        return control_client.request(directory, request, timeout_s)
    except control_client.DaemonUnreachableError as error:
        raise CommandError(str(error), _elsewhere(runtime_dir)) from None
    except control_client.RequestFailedError as error:
        raise CommandError(error.message, code=CODES.get(error.code, FAILED)) from None


def _elsewhere(runtime_dir: str | None) -> str | None:
    if runtime_dir is not None:
        return None
    return "if it runs with another --runtime-dir, name it, or set KAKEHI_RUNTIME_DIR"
