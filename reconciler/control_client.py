"""The command line's end of `control.sock`: one request out, one response back, synchronous.

Called by `reconciler.cli`. Imports nothing heavy, so that a command starts in under 100 ms.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from reconciler.errors import KakehiError, MachineError
from schemas import control


class DaemonUnreachableError(MachineError):
    """No daemon answers at this runtime directory; the message says so in one sentence."""


class RequestFailedError(KakehiError):
    """The daemon answered with an error: `code` is one of `schemas.control.ErrorCode`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def request(runtime_dir: Path, message: control.Request, timeout: float = 30.0) -> dict[str, Any]:
    """Sends one request and returns its result (a `*Result` of `schemas.control`).

    `timeout` in seconds bounds the whole exchange's silences. Raises `DaemonUnreachableError` or
    `RequestFailedError` (code "timeout" when the daemon stays silent).
    """
    path = runtime_dir / control.SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except FileNotFoundError:
            raise DaemonUnreachableError(
                f"no daemon is running at {runtime_dir} (start one with `kakehi run`)"
            ) from None
        except ConnectionRefusedError:
            raise DaemonUnreachableError(
                f"the daemon at {runtime_dir} is gone (start it again with `kakehi run`)"
            ) from None
        except PermissionError:
            raise DaemonUnreachableError(
                f"{path}: permission denied (whose daemon is it?)"
            ) from None
        except OSError as error:
            raise DaemonUnreachableError(f"cannot reach the daemon at {path}: {error}") from None
        return _exchange(connection, message, timeout)


def _exchange(
    connection: socket.socket, message: control.Request, timeout: float
) -> dict[str, Any]:
    try:
        connection.sendall(control.encode_request(message))
        line = _read_line(connection)
    except TimeoutError:
        raise RequestFailedError("timeout", f"the daemon did not answer in {timeout:g} s") from None
    except OSError as error:
        raise DaemonUnreachableError(f"the daemon closed the connection: {error}") from None
    if not line.endswith(b"\n"):
        raise DaemonUnreachableError("the daemon closed the connection before it answered")
    try:
        result, failure = control.decode_response(line)
    except control.MalformedMessageError as error:
        raise RequestFailedError("internal", f"the daemon's answer is malformed: {error}") from None
    if failure is not None:
        raise RequestFailedError(*failure)
    assert result is not None
    return result


def _read_line(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while True:
        part = connection.recv(256 * 1024)
        parts.append(part)
        if not part or part.endswith(b"\n"):
            return b"".join(parts)
