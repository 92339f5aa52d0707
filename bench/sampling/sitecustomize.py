"""Notes what every thread of a Python process is at, some hundred times a second.

Python imports a module of this name at its start: `bench.changes.profile` has this directory on the
path of the daemon that it measures, and so every process that the daemon starts is looked at as
well. A line of the file is the time (s, as of `time.monotonic`) and the functions of Kakehi that
one thread is in. Threads that wait in a function that is known for it are left out.
"""

import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

EVERY_S = 0.004
_WAITING = frozenset(("wait", "_worker", "get", "select", "poll", "acquire", "run", "_answer"))
_ROOTS = ("/reconciler/", "/schemas/", "/proxy/")


def _functions(frame: FrameType | None) -> set[str]:
    found = set()
    while frame is not None:
        code = frame.f_code
        for root in _ROOTS:
            _, there, place = code.co_filename.rpartition(root)
            if there:
                found.add(f"{root[1:]}{place.removesuffix('.py')}:{code.co_name}")
        frame = frame.f_back
    return found


def _watch(directory: str) -> None:
    own = threading.get_ident()
    with Path(directory, f"{os.getpid()}.samples").open("a", buffering=1) as samples:
        while True:
            time.sleep(EVERY_S)
            frames = sys._current_frames()  # noqa: SLF001  # it is there for whoever does this
            for thread, frame in frames.items():
                if thread != own and frame.f_code.co_name not in _WAITING:
                    samples.write(f"{time.monotonic():.3f}\t{';'.join(_functions(frame))}\n")


def _begin() -> None:
    directory = os.environ.get("KAKEHI_BENCH_SAMPLES")
    if directory:
        threading.Thread(target=_watch, args=(directory,), daemon=True).start()


_begin()
# A thread does not live on in a child.
os.register_at_fork(after_in_child=_begin)
