"""What each command sends is a request of `control`, with the fields that were asked for.

The commands write JSON without importing those classes; here a socket reads it with them.
"""

import getpass
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.commands.wait import TOLD_S
from schemas.messages import control
from tests.reconciler.cli.program import kakehi


def sent_by(line: tuple[str, ...], directory: Path) -> tuple[list[Any], int, str]:
    """Run a command against a socket that answers everything with an error; return the requests."""
    received: list[Any] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "control.sock"))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as lines:
                received.append(control.decode_request(lines.readline()))
                connection.sendall(control.encode_error("unavailable", "not today"))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        done = kakehi(*line, "--runtime-dir", str(directory))
        thread.join(10)
    return received, done.returncode, done.stderr


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (("status",), control.StatusRequest()),
        (("plan",), control.StatusRequest()),
        # Then for the rest of its time.
        (("wait",), control.WaitRequest(commit="HEAD", timeout_s=TOLD_S)),
        (
            ("wait", "--commit", "abc", "--timeout", "1500ms"),
            control.WaitRequest(commit="abc", timeout_s=1.5),
        ),
        (("history", "-n", "3"), control.HistoryRequest(limit=3)),
        (("show",), control.ShowRequest()),
        (("show", "cluster"), control.ShowRequest(kind="cluster")),
        (("show", "backend/a/b"), control.ShowRequest(kind="backend", entity="a/b")),
        (
            ("explain", "http://x/", "-X", "POST", "-H", "a: b", "-H", "c:d:e"),
            control.ExplainRequest(
                url="http://x/", method="POST", headers=[["a", "b"], ["c", "d:e"]]
            ),
        ),
        (
            ("drain", "a/b", "--owner", "me", "--for", "15m", "--wait", "--timeout", "5s"),
            control.DrainRequest(backend="a/b", owner="me", ttl_s=900.0, wait=True, timeout_s=5.0),
        ),
        (
            ("drain", "a/b", "--owner", "me", "--for", "forever"),
            control.DrainRequest(backend="a/b", owner="me", ttl_s=None),
        ),
        (("undrain", "a/b"), control.UndrainRequest(backend="a/b", owner=getpass.getuser())),
        (
            ("undrain", "a/b", "--owner", "me"),
            control.UndrainRequest(backend="a/b", owner="me"),
        ),
        (("retry",), control.RetryRequest()),
        (("show", "limits"), control.LimitsRequest()),
        (("forgive", "--all"), control.LimitsRequest(forgive=True)),
        (
            ("forgive", "policy/a/b", "--who", "192.0.2.1"),
            control.LimitsRequest(limit="policy/a/b", who="192.0.2.1", forgive=True),
        ),
        (("stop",), control.StopRequest()),
    ],
)
def test_a_command_sends(line: tuple[str, ...], request_: object, tmp_path: Path) -> None:
    received, code, errors = sent_by(line, tmp_path)
    assert received == [request_]
    assert (code, "not today" in errors) == (1, True)


def test_a_daemon_that_breaks_off_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control.sock"))
        listening.listen()

        def break_off() -> None:
            listening.accept()[0].close()

        thread = threading.Thread(target=break_off, daemon=True)
        thread.start()
        done = kakehi("status", "--runtime-dir", str(tmp_path))
        thread.join(10)
    assert done.returncode == 1
    assert "the daemon closed the connection" in done.stderr


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "control.sock"))
    done = kakehi("status", "--runtime-dir", str(tmp_path))
    assert done.returncode == 1
    assert "is gone (start it again: kakehi run)" in done.stderr
