"""Starts daemons of tests: forked from `tests.harness.forkserver` where that is as good.

Executed, as people start them, are those of tests about time, processor time or memory (`timed`,
`serial`), those with other variables than the tests have (preloaded libraries, a service manager),
those that are begun by another program, and all that are not started by a test. Called by
`tests.harness.daemon`; `tests/conftest.py` tells which test runs.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from tests.harness.forkserver import PADDING

# Whose modules are imported; another, which `tests.harness.daemon` may be told, is executed.
_EXECUTABLE = str(Path(sys.prefix) / "bin" / "kakehi")
# What else differs from the variables of the tests is there before a process imports anything.
_OWN_VARIABLES = {
    "KAKEHI_RUNTIME_DIR",
    "KAKEHI_STATE_DIR",
    "KAKEHI_FAULT",
    "PYTEST_CURRENT_TEST",
}
OF_TESTS = {"NO_COLOR": "1", "GIT_CONFIG_GLOBAL": os.devnull}
"""What daemons of tests have of variables beside the tests' own."""

# For a command line, and for the variables above.
_RESERVED = 8192
_ANSWER_MAX = 64
_FIRST_PAUSE_S, _PAUSE_MAX_S = 0.001, 0.05
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class Forked:
    """A forked daemon, to whoever started it as `subprocess.Popen` has an executed one."""

    def __init__(self, server: Forkserver, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._end = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit code if it has ended, negative: the signal that ended it."""
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._end, select.POLLIN)
            if waiting.poll(0):
                self._reap()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code; look as often as `subprocess` does."""
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        pause = _FIRST_PAUSE_S
        while (code := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("kakehi run", timeout or 0.0)
            time.sleep(min(pause, left))
            pause = min(2 * pause, _PAUSE_MAX_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reap(self) -> None:
        with self._server.lock:
            if self.returncode is None:
                self.returncode = self._server.ask({"wait": self.pid})
                os.close(self._end)


class Forkserver:
    """The process that forks, started when it is first asked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # Whether the test that runs leaves it open how its daemons are started.
        self.allowed = False
        self._variables: dict[str, str] = {}
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def allow(self, allowed: bool) -> None:
        """Tell whether daemons may be forked, before each test."""
        if not self._variables:
            self._variables = {**_others(os.environ), **OF_TESTS}
        self.allowed = allowed

    def start(
        self, command: list[str], environment: dict[str, str], output: IO[bytes]
    ) -> Forked | None:
        """Fork a daemon with an empty stdin; None: it is to be executed."""
        ours = command[0] == _EXECUTABLE and _others(environment) == self._variables
        if not self.allowed or not ours:
            return None
        own = {name: environment[name] for name in _OWN_VARIABLES & environment.keys()}
        [umask] = re.findall(
            r"^Umask:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE
        )
        request = {
            "command": command,
            "environment": own,
            "umask": int(umask, 8),
            "limits": [(limit, resource.getrlimit(limit)) for limit in _LIMITS],
        }
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        with open(os.devnull, "rb") as nothing:
            streams = [nothing.fileno(), output.fileno(), output.fileno()]
            try:
                with self.lock:
                    return Forked(self, self.ask(request, [directory, *streams]))
            finally:
                os.close(directory)

    def ask(self, request: dict[str, object], descriptors: Iterable[int] = ()) -> int:
        """Return its answer to one request; with the lock held."""
        if self._control is None:
            self._control = self._begun()
        socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
        return int(self._control.recv(_ANSWER_MAX))

    def end(self) -> None:
        """End it; the daemons that it has forked live on."""
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()
            self._control = None

    def _begun(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            script = str(Path(__file__).with_name("forkserver.py"))
            self._process = subprocess.Popen(
                [sys.executable, script, str(theirs.fileno()), "-" * _RESERVED],
                env={**self._variables, PADDING: "-" * _RESERVED},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        assert ours.recv(_ANSWER_MAX) == b"ready", "what forks daemons cannot start"
        return ours


def _others(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _OWN_VARIABLES}


forkserver = Forkserver()
"""The one of this process of tests."""
