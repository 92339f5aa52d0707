"""The life of one worker, from its core to its end; lived by what the zygote forks.

It pins the process to its core before the engine's thread exists, so that every thread of the
worker stays there, and ignores what a terminal sends: a worker ends when the reconciler says so, or
by SIGTERM. Called by `proxy.zygote` and `proxy.__main__`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from pathlib import Path

import uvloop

from proxy.engine_api import EngineApi
from proxy.shell import SIGNAL_DRAIN_MS, Shell
from schemas.messages.lines import STDERR

# How long the end waits for whoever reads the last lines.
_FLUSH_S = 1.0


def take_name(name: str) -> None:
    """The name that `ps` and `top` show; the kernel keeps 15 bytes of it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def live(worker: int, cpu: int, control_fd: int) -> int:
    """The life of one worker, in a process of its own; returns its exit code."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    take_name(f"kakehi-w{worker}")
    core = cpu if cpu >= 0 else None
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        control = socket.socket(fileno=control_fd)
        engine = EngineApi(worker, core)
        uvloop.run(_serve(worker, cpu, engine, control))
    except Exception as error:  # noqa: BLE001  # no traceback, and no wait for who reads it
        reason = str(error) or type(error).__name__
        STDERR.write(f"worker {worker} cannot run: {reason}")
        return 1
    finally:
        STDERR.flush(_FLUSH_S)
    return 0


async def _serve(worker: int, cpu: int, engine: EngineApi, control: socket.socket) -> None:
    shell = Shell(worker, cpu, engine, control)
    loop = asyncio.get_running_loop()
    asked = 0

    def terminate() -> None:
        # The second signal does not wait for requests any more.
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(0)
        shell.end(SIGNAL_DRAIN_MS)

    loop.add_signal_handler(signal.SIGTERM, terminate)
    loop.add_signal_handler(signal.SIGUSR1, engine.reopen_log)
    loop.add_signal_handler(signal.SIGUSR2, shell.bind_anew)
    # Nothing that lives now will be garbage: keep collections short.
    gc.collect()
    gc.freeze()
    await shell.run()
