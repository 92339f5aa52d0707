"""Where the processor time of a request goes, beside that of bytes passed on unread.

`python -m bench profile`. As `bench.side.floor`, but each is sampled by perf while it is asked, and
its time is divided by what it was at: calls of the kernel by their names, and functions of ours by
the room that they are in. What the compiler has put into another function counts as that one's. It
says why a ratio of `floor` is what it is, and nothing exact.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Contender, Setup, backend, ours
from bench.measuring.generator import relay
from bench.measuring.load import measuring

_BODY_BYTES = 64
_SAMPLES_PER_S = 2000
# By the first that is found in the name of a function.
_ROOMS = {
    "write heads": r"protocol::h1::(forward|respond)",
    "parse": r"protocol::|memchr",
    "route, policies": r"routing::|policy::",
    "counters": r"telemetry::",
    "exchange": r"session::exchange",
    "client's side": r"session::front",
    "backend's side": r"session::back|upstream::",
    "loop, timers, buffers": r"session::|runtime::|state::",
    "relay": r"kakehi_traffic",
    "copies": r"mem(cpy|move|set)",
}
_CALLS = {
    "send": r"__x64_sys_(send|write)",
    "receive": r"__x64_sys_(recv|read)",
    "wait": r"__x64_sys_epoll_",
    "other calls": r"__x64_sys_",
}
_INTERRUPTS = "kernel, no call"
# Python's threads, whatever they are at: the daemon's, and those beside an engine.
_BESIDE = "daemon and shell"
_REST = "the rest"


@dataclass(frozen=True, slots=True)
class Course:
    """With how many connections, and for how long each is sampled."""

    connections: Sequence[int]
    seconds: int


def run(course: Course) -> None:
    """Sample both, and print where their time goes."""
    if shutil.which("perf") is None:
        raise SystemExit("bench: perf is missing; in Debian it is in linux-perf")
    core, load_core = two_cores()
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name:
        base = Path(name)
        with (
            backend(base, load_core, _BODY_BYTES) as (port, path),
            ours(base, Setup(core, port, "lean", _BODY_BYTES)) as kakehi,
            relay(port, core, base / "relay") as floor,
        ):
            running = (kakehi, Contender("floor", floor.port, None, lambda: floor.pids))
            for connections in course.connections:
                one = measuring(connections, load_core, path)
                found = {}
                for contender in running:
                    one(contender, 1)
                    with _sampling(contender, base / "samples"):
                        spent_us = one(contender, course.seconds).cpu_us
                    counts = divided(_told(base / "samples"))
                    found[contender.name] = {
                        group: spent_us * count / counts.total() for group, count in counts.items()
                    }
                print(f"\n{connections} connections, µs of a request\n{_table(found)}", flush=True)


@contextlib.contextmanager
def _sampling(contender: Contender, output: Path) -> Iterator[None]:
    """Run perf on all threads of a contender."""
    pids = ",".join(map(str, contender.pids()))
    events = ["--event", "cpu-clock", "--freq", str(_SAMPLES_PER_S), "--call-graph", "fp"]
    command = ["perf", "record", "--quiet", *events, "--output", str(output)]
    with subprocess.Popen([*command, "--pid", pids], stderr=subprocess.DEVNULL) as perf:
        yield
        perf.terminate()


def _told(samples: Path) -> str:
    fields = ["--fields", "comm,ip,sym,dso", "--no-inline"]
    command = ["perf", "script", "--input", str(samples), *fields]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: perf script said\n{done.stderr}")
    return done.stdout


def divided(told: str) -> Counter[str]:
    """How many samples were at what, by what `perf script` says of them."""
    counts = Counter(_group(thread, frames) for thread, frames in _stacks(told))
    if not counts:
        raise SystemExit("bench: perf has sampled nothing; may it (kernel.perf_event_paranoid)?")
    return counts


def _stacks(told: str) -> Iterator[tuple[str, list[str]]]:
    """Of each sample the thread, and where it is: the innermost function first."""
    for block in told.split("\n\n"):
        thread, *frames = block.strip("\n").splitlines() or [""]
        if frames:
            yield thread.strip(), [frame.strip() for frame in frames]


def _group(thread: str, frames: Sequence[str]) -> str:
    if thread.startswith("kakehi"):
        return _BESIDE
    if not frames[0].endswith("([kernel.kallsyms])"):
        return next((room for room, names in _ROOMS.items() if re.search(names, frames[0])), _REST)
    for call, names in _CALLS.items():
        if any(re.search(names, frame) for frame in frames):
            return call
    return _INTERRUPTS


def _table(found: Mapping[str, Mapping[str, float]]) -> str:
    names = list(found)
    groups = [*_CALLS, _INTERRUPTS, *_ROOMS, _REST, _BESIDE]
    rows = [
        [group, *(f"{found[name].get(group, 0):.2f}" for name in names)]
        for group in groups
        if any(found[name].get(group) for name in names)
    ]
    sums = ["together", *(f"{sum(found[name].values()):.2f}" for name in names)]
    return report.table(["", *names], [*rows, sums])
