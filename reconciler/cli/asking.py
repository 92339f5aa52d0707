"""Speaks to the daemon for a command, and turns its errors into exit codes.

The messages are those of `schemas.messages.control`, written here as plain JSON: importing their
classes takes longer than all else that `kakehi status` does. tests/reconciler/cli/test_requests.py
decodes what every command sends by those classes.
"""

import json
import socket
from typing import Any

from reconciler.cli.commands.version import VERSION
from reconciler.cli.exits import FAILED, INVALID, TIMEOUT, USAGE, CommandError
from reconciler.cli.paths import control_socket, runtime_directory

CODES = {"usage": USAGE, "invalid": INVALID, "timeout": TIMEOUT}
"""The exit code of each `control.ErrorCode`; those that are not here are FAILED."""

_NOT_KNOWN = ("unknown request ", "request '", "field '")
"""How `control.decode_request` refuses a message that it does not know."""

CHUNK_BYTES = 256 * 1024
AT_ONCE_S = 0.01


def ask(
    runtime_dir: str | None,
    request: str,
    fields: dict[str, Any] | None = None,
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    """Send one request to the daemon and return its result, a `*Result` of `control`."""
    path = control_socket(runtime_dir)
    message = json.dumps({"request": request, **(fields or {})}).encode("ascii") + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        # With 0 it would not wait for what is there at once, either.
        connection.settimeout(timeout_s or AT_ONCE_S)
        _connect(connection, path, runtime_dir)
        try:
            connection.sendall(message)
            answer = _read_line(connection)
        except TimeoutError:
            raise CommandError(
                f"the daemon did not answer within {timeout_s:g} s",
                "it is stopped, or has no time: its log and its process say more; workers go on "
                "serving meanwhile",
                TIMEOUT,
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise LostDaemonError(f"the daemon closed the connection: {reason}") from None
    return _result(answer)


class OtherVersionError(CommandError):
    """What was said at the socket is nothing that a daemon of this version says."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: it is a daemon of another version than this command, or none at all",
            f"this is kakehi {VERSION}; end the daemon alone (kill -TERM) and start it by this "
            "version (kakehi run), which takes the workers over as they serve",
        )


class Answer(dict[str, Any]):
    """What was answered, or a map in it: what is not there is told by another version."""

    __slots__ = ()

    def __missing__(self, key: str) -> Any:
        """Raise what says so."""
        raise OtherVersionError(f'the answer of the daemon has no "{key}"')


class LostDaemonError(CommandError):
    """The daemon went away before it had answered; it may have done what it was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "it may be restarting; see what became of it: kakehi status")


class BusyDaemonError(CommandError):
    """Too many ask at once; it has done nothing of what it was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=TIMEOUT)


class NoDaemonError(CommandError):
    """Nobody listens at the control socket; `orphans` are the processes of workers that serve."""

    runs = False
    """Whether there is one all the same."""

    def __init__(self, message: str, hint: str | None, orphans: dict[int, int]) -> None:
        super().__init__(message, hint)
        self.orphans = orphans


class StartingDaemonError(NoDaemonError):
    """One has its runtime directory, and no control socket: not yet, or no longer."""

    def __init__(self, path: str, orphans: dict[int, int]) -> None:
        super().__init__(
            f"a daemon starts or ends at {path}, and does not answer",
            "wait until it serves the newest commit: kakehi wait",
            orphans,
        )


class UnreachableDaemonError(NoDaemonError):
    """It runs, and its control socket is gone; it makes it anew, where that can be."""

    runs = True

    def __init__(self, path: str, process: int) -> None:
        who = f"process {process}" if process else "ask as root which process"
        super().__init__(
            f"a daemon runs ({who}), but its socket {path} is gone: it makes it anew within a "
            "second, where it can",
            f"its log says why it cannot; to end the proxy: kill -INT {process or 'PROCESS'}",
            {},
        )


def _connect(connection: socket.socket, path: str, given: str | None) -> None:
    elsewhere = "if it has another --runtime-dir, name it or set KAKEHI_RUNTIME_DIR"
    hint = elsewhere if given is None else None
    try:
        connection.connect(path)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        process = _unreachable(path)
        if process is not None:
            raise UnreachableDaemonError(path, process) from None
        orphans, hidden = _orphans(runtime_directory(given))
        if is_starting(given):
            raise StartingDaemonError(path, orphans) from None
        if orphans:
            raise NoDaemonError(*_orphaned(path, orphans, hidden), orphans) from None
        if hidden:
            raise NoDaemonError(f"no daemon runs at {path}; {hidden}", None, {}) from None
        if not isinstance(error, ConnectionRefusedError):
            message = f"no daemon runs at {path} (start one: kakehi run)"
        else:
            message = f"the daemon of {path} is gone (start it again: kakehi run)"
        raise NoDaemonError(message, hint, {}) from None
    except BlockingIOError:
        raise BusyDaemonError(f"{path}: more ask at once than the daemon accepts") from None
    except OSError as error:
        raise CommandError(f"{path}: {(error.strerror or str(error)).lower()}", hint) from None


def is_starting(runtime_dir: str | None) -> bool:
    """Tell whether a daemon has the runtime directory, though it may not answer yet.

    The kernel is asked who holds the lock: to try it would take it from a daemon that comes.
    """
    from pathlib import Path

    from reconciler.storage.file.place import LOCK_NAME

    try:
        lock = Path(runtime_directory(runtime_dir), LOCK_NAME)
        inode = str(lock.stat().st_ino)
        try:
            held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            # Where /proc has processes only; a daemon writes its number into its lock.
            files = Path(f"/proc/{int(lock.read_bytes()[:20])}/fdinfo").iterdir()
            held = [row[5:] for each in files for row in each.read_text().splitlines()]
    except (OSError, ValueError):
        return False
    locks = (line.split() for line in held)
    return any(
        each[1] == "FLOCK" and each[5].rpartition(":")[2] == inode
        for each in locks
        if len(each) > 5
    )


def _unreachable(path: str) -> int | None:
    """Return the process of a daemon that listens there though nobody can connect; 0: unknown."""
    from contextlib import suppress
    from pathlib import Path

    from reconciler import socket_tables

    with suppress(OSError):
        place = str(Path(path).absolute())
        if any(line.endswith(place) for line in socket_tables.lines("unix")):
            from reconciler.workers.processes import lost_sockets

            return lost_sockets.daemon(Path(path))
    return None


def _orphans(runtime_dir: str) -> tuple[dict[int, int], str | None]:
    """Return the workers that serve without a daemon (process and number), and who may be more."""
    from contextlib import suppress
    from pathlib import Path

    from reconciler import socket_tables

    # Where they were bound, be it there still or not. Without a table it takes a longer look.
    with suppress(OSError):
        begins = f"{Path(runtime_dir).absolute()}/workers/"
        if not any(begins in line for line in socket_tables.lines("unix")):
            return {}, None
    from reconciler.workers.processes.orphans import find, hidden

    found = find(Path(runtime_dir))
    return found, hidden(Path(runtime_dir), found)


def _orphaned(path: str, orphans: dict[int, int], hidden: str | None) -> tuple[str, str]:
    processes = ", ".join(str(pid) for pid in orphans)
    who = "1 worker goes" if len(orphans) == 1 else f"{len(orphans)} workers go"
    told = f"no daemon runs at {path}; {who} on serving without it (process {processes})"
    return (
        f"{told}; {hidden}" if hidden else told,
        "have them taken over: kakehi run; or end them: kakehi stop",
    )


def _read_line(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while True:
        part = connection.recv(CHUNK_BYTES)
        parts.append(part)
        if not part or part.endswith(b"\n"):
            return b"".join(parts)


def _result(answer: bytes) -> dict[str, Any]:
    if not answer.endswith(b"\n"):
        raise LostDaemonError("the daemon closed the connection before it had answered")
    try:
        body = json.loads(answer, object_hook=Answer)
    except (ValueError, RecursionError):
        raise OtherVersionError("what answers is no daemon's message") from None
    if not isinstance(body, Answer):
        raise OtherVersionError("what answers is no daemon's message")
    said = body["result"] if body["ok"] is True else body["error"]
    if not isinstance(said, Answer):
        raise OtherVersionError("what answers is no daemon's message")
    if body["ok"] is True:
        return said
    code, message = str(said["code"]), str(said["message"])
    if code == "busy":
        raise BusyDaemonError(message)
    if code == "usage" and message.startswith(_NOT_KNOWN):
        raise OtherVersionError(f"the daemon does not know what it is asked ({message})")
    raise CommandError(message, code=CODES.get(code, FAILED))
