"""A peer or a backend as a child process in the foreground, pinned to a core."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bench.measuring.accounting import children, pinned

# Debian keeps daemons in sbin, which is not on the PATH of every user.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
_START_S = 30.0
_END_S = 10.0


def program(name: str) -> str:
    """The path of a program that a benchmark needs."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise SystemExit(f"bench: {name} is missing; `make test-tools` installs it on Debian")
    return found


class Service:
    """Starts at once and is ready when its port answers; use as a context manager."""

    def __init__(self, command: Sequence[str], port: int, core: int | None, output: Path) -> None:
        self.port = port
        self._output = output
        with output.open("ab") as stdout, output.with_suffix(".err").open("ab") as stderr:
            if core is None:
                self._process = self._start(command, stdout.fileno(), stderr.fileno())
            else:
                with pinned(core):
                    self._process = self._start(command, stdout.fileno(), stderr.fileno())
        self._wait_for_port()

    @staticmethod
    def _start(command: Sequence[str], stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [program(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            # Ctrl-C is for the benchmark, which ends its services itself. Not a session of their
            # own: the scheduler weighs sessions against each other, and none shall have it better.
            process_group=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """It and its children."""
        return [self.pid, *children(self.pid)]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, by force if it must be."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_S)

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
            self.stop()
            said = self._output.with_suffix(".err").read_text(errors="replace")
            raise SystemExit(f"bench: {self._process.args!r} does not serve:\n{said[-2000:]}")
