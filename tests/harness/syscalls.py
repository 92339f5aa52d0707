"""How often a thread of another process calls the kernel, and in which order, as strace tells it.

Both are the same whatever else the machine does, which times are not. Used by `tests/scale` and
`tests/reconciler/loop`.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_DEADLINE_S = 10.0


def engine_thread(worker: int) -> int:
    """The thread of a worker that serves."""
    for task in Path(f"/proc/{worker}/task").iterdir():
        if (task / "comm").read_text().startswith("engine-"):
            return int(task.name)
    raise AssertionError(f"{worker} has no thread that serves")


@contextlib.contextmanager
def counted(thread: int, output: Path) -> Iterator[Counter[str]]:
    """What is called meanwhile, by name; filled at the end."""
    calls: Counter[str] = Counter()
    with _strace(thread, "-c", "-U", "name,calls", "-o", str(output)):
        yield calls
    for line in output.read_text().splitlines():
        name, *rest = line.split()
        if rest and rest[0].isdigit() and name != "total":
            calls[name] = int(rest[0])


@contextlib.contextmanager
def told(process: int, output: Path, names: str) -> Iterator[list[str]]:
    """Those of some names that its threads call meanwhile, one by one; filled at the end."""
    calls: list[str] = []
    with _strace(process, "-f", "-e", f"trace={names}", "-s", "200", "-o", str(output)):
        yield calls
    calls += output.read_text().splitlines()


@contextlib.contextmanager
def _strace(thread: int, *options: str) -> Iterator[None]:
    with subprocess.Popen(
        ["strace", *options, "-p", str(thread)], stderr=subprocess.DEVNULL
    ) as strace:
        try:
            _wait_until_traced(thread, strace)
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(_DEADLINE_S)


def _wait_until_traced(thread: int, strace: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    status = Path(f"/proc/{thread}/status")
    while f"TracerPid:\t{strace.pid}\n" not in status.read_text():
        assert strace.poll() is None and time.monotonic() < deadline, "strace does not attach"
        time.sleep(0.01)
