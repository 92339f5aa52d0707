"""The zygote: a process that has imported all that a worker needs, and forks workers that have too.

A worker is then there in milliseconds, and shares the memory of the code with the others. The
zygote has no thread and no event loop, so that a fork copies nothing that is half done. It does not
stay the parent of a worker: whoever forked it ends at once, and the kernel gives the worker to the
reconciler, which asked to get it, and which gives it a process group of its own. Until then it has
the zygote's, in which it ends if the reconciler does not come to know it. Forked by `kakehi run`,
or executed (`proxy.__main__`).
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket

from proxy import prober
from proxy.worker import live, take_name
from schemas.messages.zygote import PROBER, REPLY, REQUEST

_LOST = -errno.ECHILD
# What Python has by itself; a command line that is to end soon collects less often.
_GARBAGE = (700, 10, 10)


def run(control: socket.socket) -> int:
    """Forks until the reconciler is gone. In the forked worker: what its life returns."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    take_name("kakehi-zygote")
    # What was imported stays, and no collection shall copy its pages: not even one before this.
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    gc.enable()
    while True:
        request, descriptors, _, _ = socket.recv_fds(
            control, REQUEST.size, 1, socket.MSG_CMSG_CLOEXEC
        )
        if not request:
            return 0
        worker, cpu = REQUEST.unpack(request)
        [listening] = descriptors
        try:
            pid = _fork(worker)
        except OSError as error:
            pid = -error.errno if error.errno else _LOST
        if pid == 0:
            control.close()
            return prober.live(listening) if worker == PROBER else live(worker, cpu, listening)
        os.close(listening)
        try:
            control.send(REPLY.pack(pid))
        except OSError:
            return 0


def _fork(worker: int) -> int:
    """The worker's process to the zygote, 0 to the worker, which is no child of the zygote."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        _beget(worker, writer)
        os.close(reader)
        os.close(writer)
        return 0
    os.close(writer)
    told = os.read(reader, REPLY.size)
    os.close(reader)
    os.waitpid(middle, 0)
    (pid,) = REPLY.unpack(told) if told else (_LOST,)
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return int(pid)


def _beget(worker: int, writer: int) -> None:
    """Forks once more and ends; returns in the worker. It has its name from the first moment on."""
    take_name(prober.NAME if worker == PROBER else f"kakehi-w{worker}")
    try:
        pid = os.fork()
    except OSError as error:
        pid = -error.errno if error.errno else _LOST
    if pid != 0:
        os.write(writer, REPLY.pack(pid))
        os._exit(0)
