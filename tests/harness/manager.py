"""A service manager as systemd is one to us: keeps descriptors, passes them at the next start.

Speaks the documented protocol (sd_notify(3), sd_listen_fds(3)) over a real socket. Under it a
daemon and all of its workers may die in the same instant without a listening socket being lost.
"""

from __future__ import annotations

import array
import os
import socket
import sys
import threading
from pathlib import Path

from tests.harness import processes

_SIZE = 4096
_PASSED = 64

# Moves the descriptors to where they are expected, and becomes the daemon under the same pid.
_LAUNCHER = """
import fcntl, os, sys
numbers = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 200) for each in sys.argv[1].split(",") if each]
for place, number in enumerate(numbers, 3):
    os.dup2(number, place, inheritable=True)
    os.close(number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServiceManager:
    """Use as a context manager; `environment`, `command` and `descriptors` start a service."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._lock = threading.Lock()
        self._stored: dict[str, int] = {}
        self.said: list[str] = []
        self._ending = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", str(self.path))
        self._thread.join(10)
        self._socket.close()
        for descriptor in self._stored.values():
            os.close(descriptor)

    @property
    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._stored)

    def wait_ready(self, starts: int) -> None:
        """Wait until the service has said so many times that it is ready."""
        processes.wait_until(lambda: self.said.count("READY=1") >= starts, "the service is ready")

    def launch(self, command: list[str]) -> tuple[list[str], dict[str, str], list[int]]:
        """What to start instead of `command`: (command, environment, descriptors to pass)."""
        with self._lock:
            stored = dict(self._stored)
        environment = {
            "NOTIFY_SOCKET": str(self.path),
            "LISTEN_FDS": str(len(stored)),
            "LISTEN_FDNAMES": ":".join(stored),
        }
        numbers = ",".join(str(descriptor) for descriptor in stored.values())
        return (
            [sys.executable, "-c", _LAUNCHER, numbers, *command],
            environment,
            list(stored.values()),
        )

    def _listen(self) -> None:
        while True:
            data, rights, _, _ = self._socket.recvmsg(
                _SIZE, socket.CMSG_SPACE(_PASSED * array.array("i").itemsize)
            )
            if self._ending:
                return
            passed = array.array("i")
            for _, _, content in rights:
                passed.frombytes(content[: len(content) - len(content) % passed.itemsize])
            self._take(data.decode().splitlines(), list(passed))

    def _take(self, lines: list[str], passed: list[int]) -> None:
        fields = dict(line.partition("=")[::2] for line in lines)
        with self._lock:
            self.said.extend(lines)
            name = fields.get("FDNAME", "stored")
            if "FDSTOREREMOVE" in fields and name in self._stored:
                os.close(self._stored.pop(name))
            elif "FDSTORE" in fields and passed:
                if name in self._stored:
                    os.close(self._stored.pop(name))
                self._stored[name] = passed.pop()
        for descriptor in passed:
            os.close(descriptor)
