"""What the operator of a large site waits for: starts, changes, questions, at one size.

`bench/site`. Each file has one frontend, one cluster and one backend, and a daemon with two workers
follows the repository. Measured are the first load, a thousand changes one by one and a thousand in
one commit, everybody's death, and what the command line takes to answer. Beside each figure stands
what is wanted of it at 100,000 frontends; a figure that misses it is marked.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import report
from bench.reconfigure import Subject
from reconciler.cli.asking import ask
from tests.harness.ports import free_port

_ASK_EVERY_S = 0.02
_SETTLED_S = 1.0
_MANY = 1000
_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, in a unit, and the most that is wanted."""

    what: str
    found: float
    wanted: float
    unit: str

    def row(self) -> list[str]:
        """As a row of the table."""
        missed = "missed" if self.found > self.wanted else ""
        return [self.what, f"{self.found:.3g} {self.unit}", f"{self.wanted:g} {self.unit}", missed]


def run(frontends: int, changes: int) -> None:
    """Measure, print, and write a file for programs."""
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base:
        print(f"a repository of {frontends} files", flush=True)
        subject = Subject(Path(base), frontends, per_file=1, metrics_port=free_port())
        figures: list[Figure] = []
        try:
            for figure in _measured(subject, changes):
                print(f"{figure.what}: {figure.found:.3g} {figure.unit}", flush=True)
                figures.append(figure)
        finally:
            subject.daemon.stop(check=False)
    head = [f"{frontends} frontends", "found", "wanted at 100,000", ""]
    print("\n" + report.table(head, [figure.row() for figure in figures]))
    found: dict[str, Any] = {"frontends": frontends, "changes": changes}
    found["figures"] = [
        {"what": each.what, "found": each.found, "wanted": each.wanted, "unit": each.unit}
        for each in figures
    ]
    print(f"\nwritten to {report.save('site', found)}")


def _measured(subject: Subject, changes: int) -> Iterator[Figure]:
    yield Figure("first load to served", subject.started(), 30, "s")
    yield Figure("daemon's memory after it", subject.memory_kib()["daemon"] / 1024, 300, "MB")
    yield Figure("a worker's memory", subject.memory_kib()["worker"] / 1024, 150, "MB")
    yield from _changes(subject, changes)
    many = min(_MANY, subject.frontends)
    with _asking(subject) as slowest_s:
        took_s = subject.change(count=many).wall_ms / 1000
    yield Figure(f"{many} entities in one commit", took_s, 0.6, "s")
    yield Figure("longest wait of a question meanwhile", slowest_s() * 1000, 50, "ms")
    yield from _questions(subject)
    yield Figure("a killed worker replaced", _replaced_s(subject), 2, "s")
    subject.kill_daemon()
    yield Figure("daemon killed, workers adopted", subject.started(), 1, "s")
    yield from _first_change(subject)
    yield Figure("daemon's memory after it", subject.memory_kib()["daemon"] / 1024, 300, "MB")
    subject.daemon.kill()
    yield Figure("all killed, serving again", subject.started(), 3, "s")
    yield from _first_change(subject)


def _first_change(subject: Subject) -> Iterator[Figure]:
    # What a daemon loads once it is ready, it has loaded.
    time.sleep(_SETTLED_S)
    yield Figure("the first change after it", subject.change().wall_ms, 10, "ms")


def _changes(subject: Subject, changes: int) -> Iterator[Figure]:
    yield Figure("the first change", subject.change().wall_ms, 10, "ms")
    took_ms = sorted(subject.change(settle_s=0).wall_ms for _ in range(changes))
    yield Figure(f"one change, median of {changes}", statistics.median(took_ms), 10, "ms")
    yield Figure("p99", took_ms[len(took_ms) * 99 // 100], 40, "ms")
    yield Figure("the longest", took_ms[-1], 40, "ms")


def _questions(subject: Subject) -> Iterator[Figure]:
    tenants, directory = subject.tenants, subject.daemon.repo.directory
    url = f"http://{tenants.hostname(1)}:{tenants.listener_port}/"
    metrics = f"http://127.0.0.1:{tenants.metrics_port}/metrics"
    # The working tree is that of the newest commit, but for one file.
    subject.check_out()
    path, text = tenants.move(1, 1)
    (directory / path).write_text(text)
    for what, command, wanted in (
        ("plan of one file", ("plan", str(directory)), 0.3),
        ("status", ("status",), 0.1),
        ("explain", ("explain", url), 0.15),
    ):
        asked = partial(subject.daemon.run_cli, *command, check=True)
        yield Figure(what, _median_s(asked), wanted, "s")

    def scraped() -> None:
        with urllib.request.urlopen(metrics, timeout=_DEADLINE_S) as answer:  # ours
            answer.read()

    yield Figure("/metrics", _median_s(scraped), 1, "s")


def _median_s(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _replaced_s(subject: Subject) -> float:
    """Return after how long as many workers serve as before."""
    victim = subject.worker_pids[0]
    began = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    while time.perf_counter() - began < _DEADLINE_S:
        status = ask(str(subject.daemon.runtime_dir), "status", {})
        serving = [each["pid"] for each in status["workers"] if each["state"] == "running"]
        if victim not in serving and len(serving) == len(subject.worker_pids):
            subject.worker_pids = serving
            return time.perf_counter() - began
        time.sleep(_ASK_EVERY_S)
    raise SystemExit("bench: a killed worker was not replaced")


@contextmanager
def _asking(subject: Subject) -> Iterator[Callable[[], float]]:
    """Within, somebody asks for the status all the time; gives how long an answer took at most."""
    slowest_s = 0.0
    ended = threading.Event()

    def asking() -> None:
        nonlocal slowest_s
        while not ended.is_set():
            began = time.perf_counter()
            ask(str(subject.daemon.runtime_dir), "status", {})
            slowest_s = max(slowest_s, time.perf_counter() - began)
            time.sleep(_ASK_EVERY_S)

    thread = threading.Thread(target=asking)
    thread.start()
    try:
        yield lambda: slowest_s
    finally:
        ended.set()
        thread.join()
