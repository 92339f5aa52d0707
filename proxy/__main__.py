"""Starts one worker: `python -m proxy --worker N --cpu K --control-fd FD`. For the reconciler only.

Pins the process to its core before the engine's thread exists, so that every thread of the worker
stays there, and ignores what a terminal sends: a worker ends when the reconciler says so, or by
SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from proxy.engine_api import EngineApi
from proxy.shell import SIGNAL_DRAIN_MS, Shell
from schemas.lines import STDERR

# How long the end waits for whoever reads the last lines.
_FLUSH_S = 1.0


def main() -> int:
    """Returns the exit code: 0 after a drain, 1 when the worker cannot start."""
    options = _arguments()
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        # The name that `ps` and `top` show; the kernel keeps 15 bytes of it.
        Path("/proc/self/comm").write_text(f"kakehi-w{options.worker}")
    cpu = options.cpu if options.cpu >= 0 else None
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        control = socket.socket(fileno=options.control_fd)
        engine = EngineApi(options.worker, cpu)
        uvloop.run(_serve(options.worker, options.cpu, engine, control))
    except Exception as error:  # noqa: BLE001  # no traceback, and no wait for who reads it
        reason = str(error) or type(error).__name__
        STDERR.write(f"worker {options.worker} cannot run: {reason}")
        return 1
    finally:
        STDERR.flush(_FLUSH_S)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proxy", description=__doc__)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--cpu", type=int, required=True, help="-1: not pinned")
    parser.add_argument("--control-fd", type=int, required=True)
    return parser.parse_args()


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
    # Nothing that lives now will be garbage: keep collections short.
    gc.collect()
    gc.freeze()
    await shell.run()


if __name__ == "__main__":
    sys.exit(main())
