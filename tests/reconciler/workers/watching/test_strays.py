"""A worker of an earlier daemon is found when it begins to matter, and not when a rest is over."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from reconciler.workers.watching import strays
from reconciler.workers.watching.strays import Strays
from tests.reconciler.workers.slots.test_supervisor import Plane, until

WORKER = """
import os, signal, sys
open("/proc/self/comm", "w").write("kakehi-w3")
print("named", flush=True)
signal.pause()
"""


def test_one_whose_socket_we_get_later_is_told_and_so_is_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beside what looks cost on a machine of many processes.
    monkeypatch.setattr(strays, "_SOON_S", 0.05)
    monkeypatch.setattr(strays, "_TURN_S", 0.2)
    monkeypatch.setattr(strays, "_REST_SHARE", 1e9)
    looks = []
    look = Strays._look

    async def counted(self: Strays) -> float:
        looks.append(self)
        return await look(self)

    monkeypatch.setattr(Strays, "_look", counted)

    async def run(stray: subprocess.Popen[bytes], listening: socket.socket) -> None:
        plane = Plane(tmp_path)
        found = Strays(plane.supervisor, plane.sockets, tmp_path)
        part = asyncio.create_task(found.run())
        await until(lambda: len(looks) == 2)
        await asyncio.sleep(1)
        assert len(looks) == 2, "it rests"
        assert found.told() == []
        plane.sockets.adopt(0, os.dup(listening.fileno()))
        await until(lambda: found.told() != [])
        assert f"process {stray.pid} (kakehi-w3) serves" in found.told()[0]
        stray.send_signal(signal.SIGKILL)
        stray.wait(20)
        await until(lambda: found.told() == [])
        part.cancel()
        with suppress(asyncio.CancelledError):
            await part
        plane.sockets.close()
        await plane.end()

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        command = [sys.executable, "-c", WORKER, "proxy"]
        with subprocess.Popen(
            command, pass_fds=[listening.fileno()], stdout=subprocess.PIPE
        ) as stray:
            try:
                assert stray.stdout is not None
                assert stray.stdout.readline() == b"named\n"
                asyncio.run(run(stray, listening))
            finally:
                stray.kill()
