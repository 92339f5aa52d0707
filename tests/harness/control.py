"""Asks the daemon over its control socket, as the command line does, without starting a process.

For tests that ask so often that the start of `kakehi` would be most of what they measure.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

DEADLINE_S = 60.0


def ask(runtime_dir: Path, request: str, deadline_s: float = DEADLINE_S, **fields: Any) -> Any:
    """Return the result of one request. Raises OSError when there is no daemon."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(deadline_s)
        connection.connect(str(runtime_dir / "control.sock"))
        connection.sendall(json.dumps({"request": request, **fields}).encode() + b"\n")
        answer = bytearray()
        while not answer.endswith(b"\n"):
            block = connection.recv(1 << 16)
            if not block:
                raise ConnectionError(f"the daemon left {request} without an answer")
            answer += block
    response = json.loads(answer)
    assert response["ok"], response
    return response["result"]


def ask_when_there(
    runtime_dir: Path, request: str, deadline_s: float = DEADLINE_S, **fields: Any
) -> Any:
    """Like `ask`, but wait for a daemon that is just starting."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            return ask(runtime_dir, request, max(0.1, deadline - time.monotonic()), **fields)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
