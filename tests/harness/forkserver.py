"""The process that forks daemons for tests: it has made what each start of one makes anew.

Imports and models are most of the processor time of a start, and some thousand tests begin with
one. What is forked lives the daemon's own `main` and is what executing it would leave: command
line, environment, directory, descriptors, signals, limits, umask and name are its own, and no
thread is there before. It has what was imported and built, and the seed of hashes, from here. Run
as a script by `tests.harness.forked`, which tells when a daemon is executed instead.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any, TextIO

# What `kakehi run` imports until it has served its first commit.
_IMPORTED = (
    "reconciler.cli.main",
    "reconciler.cli.commands.run",
    "reconciler.cli.trees.working_tree",
    "proxy.zygote",
    "reconciler.daemon.starting",
    "reconciler.planning.differ",
    "reconciler.materials.pem",
)
_REQUEST_MAX = 1 << 16
_DESCRIPTORS = 4
_NAME = "kakehi"
# A variable of that name reserves the place where /proc shows the variables of a daemon.
PADDING = "KAKEHI_TEST_PADDING"


def serve(control: socket.socket) -> int:
    """Answers until the tests are over. In the forked daemon: what its life returns."""
    # What is sent to a daemon of a moment ago waits until it can be interrupted.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _REQUEST_MAX, _DESCRIPTORS)
        if not data:
            return 0
        request = json.loads(data)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                return _live(request, descriptors, control)
            for descriptor in descriptors:
                os.close(descriptor)
        control.send(str(answer).encode())


def _build() -> None:
    """Build the models, and find out how each is made of a value: at their first use, otherwise."""
    base = sys.modules["schemas.base"]
    for model in _below(base.BaseModel):
        model.model_rebuild()
        if issubclass(model, base.Plain):
            list(base.not_there_yet(model.model_construct()))


def _below(model: Any) -> list[Any]:
    return [each for child in model.__subclasses__() for each in (child, *_below(child))]


def _live(request: dict[str, Any], descriptors: list[int], control: socket.socket) -> int:
    directory, *streams = descriptors
    os.fchdir(directory)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    control.detach()
    os.closerange(len(streams), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.umask(request["umask"])
    for limit, bounds in request["limits"]:
        resource.setrlimit(limit, tuple(bounds))
    _show(request["command"], request["environment"])
    os.environ.update(request["environment"])
    sys.argv = request["command"]
    sys.orig_argv[:] = [sys.executable, *request["command"]]
    given = os.fdopen(0, encoding=sys.stdin.encoding, closefd=False)
    streams_of = {
        "stdin": given,
        "stdout": _opened(1, sys.stdout),
        "stderr": _opened(2, sys.stderr),
    }
    for name, stream in streams_of.items():
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    # It has read its variable.
    importlib.reload(sys.modules["reconciler.faults"])
    gc.enable()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return int(sys.modules["reconciler.cli.main"].main())


def _show(command: list[str], environment: dict[str, str]) -> None:
    """Have /proc show a command line and an environment (proc_pid_stat(5))."""
    Path("/proc/self/comm").write_text(_NAME)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    _write(start, end - start, [sys.executable, *command])
    start, end = int(fields[47]), int(fields[48])
    shown = ctypes.string_at(start, end - start)
    reserved = f"{PADDING}={os.environ.pop(PADDING)}\0".encode()
    place = shown.index(reserved)
    _write(start + place, len(reserved), [f"{k}={v}" for k, v in environment.items()])


def _write(start: int, size: int, strings: list[str]) -> None:
    data = b"".join(each.encode(errors="surrogateescape") + b"\0" for each in strings)
    assert len(data) <= size, "more than was reserved"
    ctypes.memmove(start, data.ljust(size, b"\0"), size)


def _opened(number: int, like: TextIO) -> TextIO:
    """A standard stream as Python opens it at its start, here when it had another descriptor."""
    unbuffered = isinstance(like.buffer, io.FileIO)
    below = os.fdopen(number, "wb", 0 if unbuffered else -1, closefd=False)
    return io.TextIOWrapper(
        below,
        encoding=like.encoding,
        errors=like.errors,
        newline="\n",
        line_buffering=number == 2 and not unbuffered,
        write_through=unbuffered,
    )


if __name__ == "__main__":
    asking = socket.socket(fileno=int(sys.argv[1]))
    # The directory of the script, as the daemon's has it.
    sys.path[0] = str(Path(sys.executable).parent)
    gc.disable()
    for name in _IMPORTED:
        importlib.import_module(name)
    sys.modules["reconciler.planning.differ"].load()
    _build()
    # What is imported stays: no collection copies its pages.
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "with threads nothing can be forked"
    asking.send(b"ready")
    sys.exit(serve(asking))
