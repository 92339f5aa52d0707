"""The process that forks workers (`proxy.zygote`), as the daemon has it: started, asked, ended.

Called by `reconciler.workers.processes.spawning`; `kakehi run` starts it first of all, and ends it
last. The first one is forked from a process that has imported what daemon and workers both need,
and so costs nothing. It has nothing else of ours: by then there is no thread, no state and no
socket but what a service manager has passed, which is closed. Once there are threads a process
cannot be forked safely, so one that is started anew is executed.

It has a process group of its own, and so has whatever it begets until we know of that: who gives it
up ends all of them in one call, and no worker comes to life that nobody knows.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from schemas.messages.zygote import REPLY, REQUEST

# One that has just been executed imports first, on a machine that may be busy. One that has forked
# before does nothing else: it was stopped if it does not answer, and another takes its place.
_FIRST_FORK_TIMEOUT_S = 15.0
_FORK_TIMEOUT_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36
# What systemd tells the daemon is not meant for the workers.
_OWN_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
_STDERR = 2
# What `ps` and `pkill -f` take for the command line: that of the daemon must not be there.
_TITLE = b"python\0-m\0proxy\0"


class Zygote:
    """The process that forks workers: started when first needed, and anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | _Forked | None = None
        self._control: socket.socket | None = None

    def start(self, life: Callable[[socket.socket], int] | None = None) -> None:
        """Start it before it is needed. Raises `OSError`.

        With `life` it is forked from this process, which must have no other thread, and lives that.
        """
        with self._lock:
            self._started(life)

    def fork(self, worker: int, cpu: int, listening: socket.socket) -> int:
        """Returns the worker's process, a child of ours. Raises `OSError`."""
        with self._lock:
            process, control = self._started()
            # It may have been started before we raised ours. In a sandbox without the right to, a
            # worker that raises its own comes as far.
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            with contextlib.suppress(OSError):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
            _adopt_orphans(True)
            try:
                pid = _ask(control, REQUEST.pack(worker, cpu), listening)
            except OSError:
                self._end()
                raise
            finally:
                _adopt_orphans(False)
            control.settimeout(_FORK_TIMEOUT_S)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def end(self) -> None:
        """Ends it; workers live on."""
        with self._lock:
            self._end()

    def _started(
        self, life: Callable[[socket.socket], int] | None = None
    ) -> tuple[subprocess.Popen[bytes] | _Forked, socket.socket]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None or self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(_FIRST_FORK_TIMEOUT_S)
            with theirs:
                self._process = _executed(theirs) if life is None else _Forked(theirs, life)
            self._control = ours
        return self._process, self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            _end_group(self._process)
        self._process = self._control = None


class _Forked:
    """A child that was forked and not executed, as `subprocess.Popen` has those that were."""

    def __init__(self, control: socket.socket, life: Callable[[socket.socket], int]) -> None:
        self._code: int | None = None
        # Raised in one of the hooks of a fork, an interrupt would be told and dropped.
        former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.pid = os.fork()
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        if self.pid == 0:
            _live(control, life)
        # Here too: whoever ends the group at once shall find one.
        os.setpgid(self.pid, self.pid)

    def poll(self) -> int | None:
        """Its exit code if it has ended, negative: the signal that ended it."""
        return self._reaped(os.WNOHANG)

    def wait(self) -> int | None:
        """Waits for its end."""
        return self._reaped(0)

    def kill(self) -> None:
        """Ends it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, 9)

    def _reaped(self, options: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def _ask(control: socket.socket, request: bytes, listening: socket.socket) -> int:
    """Returns the process of a worker, which leaves the group of the zygote; negative: an errno.

    By itself it would leave before we know of it. In no session of its own: with sched_autogroup
    (sched(7)) it would compete for its core as one group against all others: hundreds of
    milliseconds of stall whenever somebody else computes on that core.
    """
    socket.send_fds(control, [request], [listening.fileno()])
    reply = control.recv(REPLY.size)
    if not reply:
        raise OSError(0, "the process that forks workers has ended")
    (pid,) = REPLY.unpack(reply)
    if pid > 0:
        # One that has ended since is found out by who waits for it.
        os.setpgid(pid, pid)
    return int(pid)


def _end_group(zygote: subprocess.Popen[bytes] | _Forked) -> None:
    """Ends it and what it has begotten without a word, and takes the exit codes of what is ours."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(zygote.pid, signal.SIGKILL)
    zygote.wait()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-zygote.pid, 0)


def _executed(control: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "proxy", f"--zygote-fd={control.fileno()}"],
        pass_fds=[control.fileno()],
        stdin=subprocess.DEVNULL,
        process_group=0,
        env={k: v for k, v in os.environ.items() if k not in _OWN_VARIABLES},
    )


def _live(control: socket.socket, life: Callable[[socket.socket], int]) -> NoReturn:
    """In the child: what executing does by itself, then its life."""
    code = 1
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.closerange(_STDERR + 1, control.fileno())
        os.closerange(control.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        for name in _OWN_VARIABLES:
            os.environ.pop(name, None)
        _take_title()
        code = life(control)
    finally:
        os._exit(code)


def _take_title() -> None:
    """Writes over the command line that the kernel shows (proc_pid_cmdline(5))."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    ctypes.memmove(start, _TITLE.ljust(end - start, b"\0")[: end - start], end - start)


def _adopt_orphans(yes: bool) -> None:
    """Whether we become the parent of grandchildren whose parent ends (prctl(2)).

    Not for longer than a fork takes: we wait for nobody but our workers.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the parent of workers")


zygote = Zygote()
"""The one of this process."""
