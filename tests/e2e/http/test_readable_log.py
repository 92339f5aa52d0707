"""The access log on the standard output: for people on a terminal, JSON for whatever else reads."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import socket
import sys
import time
from pathlib import Path

from tests.harness.ports import split
from tests.reconciler.live import Shop, eventually

_ONTO = "import os, sys; os.dup2(os.open({tty!r}, os.O_WRONLY | os.O_NOCTTY), 1); "
_ONTO += "os.execv(sys.argv[1], sys.argv[1:])"
_LINE = re.compile(
    r"^\d\d:\d\d:\d\d\.\d{3} 200 GET 127\.0\.0\.1/hello "
    r"\d+\.\d ms, \d+ B by web from shop/one\r$",
    re.MULTILINE,
)


def read_until(terminal: int, wanted: str) -> str:
    text, deadline = "", time.monotonic() + 20
    while wanted not in text or not text.endswith("\n"):
        assert time.monotonic() < deadline, text
        if select.select([terminal], [], [], 1)[0]:
            text += os.read(terminal, 4096).decode()
    return text


def test_a_terminal_gets_lines_for_people(tmp_path: Path) -> None:
    terminal, slave = pty.openpty()
    made = Shop(tmp_path, 1, ())
    made.daemon.launcher = (sys.executable, "-c", _ONTO.format(tty=os.ttyname(slave)))
    try:
        made.start(access_log="stdout")
        assert made.get(path="/hello") == 200
        assert _LINE.search(read_until(terminal, "/hello"))
        # What a client sends stays escaped: nothing of it reaches the terminal as it is.
        with socket.create_connection(split(made.listener), 5) as connection:
            connection.sendall(b"GET /odd\x1b[2J\xc2\x9b HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(4096)
        text = read_until(terminal, "/odd")
        assert not {"\x1b", "\x9b"} & set(text), text
    finally:
        made.stop()
        os.close(terminal)
        os.close(slave)


def test_a_file_gets_json(tmp_path: Path) -> None:
    made = Shop(tmp_path, 1, ())
    try:
        made.start(access_log="stdout")
        assert made.get(path="/hello") == 200

        def entries() -> list[dict[str, object]]:
            lines = made.daemon.output.read_text().splitlines()
            return [json.loads(line) for line in lines if line.startswith("{")]

        eventually(lambda: any(each["path"] == "/hello" for each in entries()))
    finally:
        made.stop()
