"""What the operator of a large site waits for: starts, changes, questions, at one size.

`bench/site`. Each file has one frontend, one cluster and one backend, and a daemon with two workers
follows the repository. Measured are the first load, a thousand changes one by one and a thousand in
one commit, everybody's death, and what the command line takes to answer. Beside each figure stands
what is wanted of it at 100,000 frontends; a figure that misses it is marked, and where its time
went is told below the table.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.changes import profile
from bench.changes.reconfigure import Subject
from bench.measuring import report
from reconciler.cli.asking import ask
from tests.harness.ports import free_port

_ASK_EVERY_S = 0.02
_SETTLED_S = 1.0
_MANY = 1000
# A single change takes half of the usual time, or twice: one start alone would say nothing.
_STARTS = 5
_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, in a unit, and the most that is wanted."""

    what: str
    found: float
    wanted: float
    unit: str
    spent: profile.Spent | None = None
    """Where the time of it went."""

    @property
    def is_missed(self) -> bool:
        """Whether it is more than is wanted."""
        return self.found > self.wanted

    def row(self) -> list[str]:
        """As a row of the table."""
        missed = "missed" if self.is_missed else ""
        return [self.what, f"{self.found:.3g} {self.unit}", f"{self.wanted:g} {self.unit}", missed]


def run(frontends: int, changes: int, *, sampled: bool, starts: int = _STARTS) -> None:
    """Measure, print, and write a file for programs."""
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base:
        samples = Path(base, "samples") if sampled else None
        print(f"a repository of {frontends} files", flush=True)
        subject = Subject(Path(base), frontends, per_file=1, metrics_port=free_port())
        figures: list[Figure] = []
        with _sampling(samples):
            try:
                for figure in Site(subject, samples, starts).figures(changes):
                    print(f"{figure.what}: {figure.found:.3g} {figure.unit}", flush=True)
                    figures.append(figure)
            finally:
                subject.daemon.stop(check=False)
    head = [f"{frontends} frontends", "found", "wanted at 100,000", ""]
    print("\n" + report.table(head, [figure.row() for figure in figures]))
    _tell_profiles(figures)
    found: dict[str, Any] = {"frontends": frontends, "changes": changes, "sampled": sampled}
    found["figures"] = [
        {"what": each.what, "found": each.found, "wanted": each.wanted, "unit": each.unit}
        for each in figures
    ]
    print(f"\nwritten to {report.save('site', found)}")


def _tell_profiles(figures: list[Figure]) -> None:
    for figure in figures:
        if figure.is_missed and figure.spent is not None:
            print(f"\n{figure.what}")
            for line in figure.spent.lines():
                print(f"  {line}")


@contextmanager
def _sampling(samples: Path | None) -> Iterator[None]:
    """Within, Python processes that are started say what they are at."""
    added: dict[str, str] = {}
    if samples is not None:
        samples.mkdir()
        added = {"KAKEHI_BENCH_SAMPLES": str(samples), "PYTHONPATH": str(profile.SAMPLING)}
    former = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Site:
    """One site, measured from its first load to its last start."""

    def __init__(self, subject: Subject, samples: Path | None, starts: int) -> None:
        self._subject = subject
        self._samples = samples
        self._starts = starts

    def figures(self, changes: int) -> Iterator[Figure]:
        """Yield one figure after the other."""
        subject = self._subject
        yield self._figure("first load to served", 30, "s", subject.started)
        yield from self._memory()
        yield Figure("a worker's memory", subject.memory_kib()["worker"] / 1024, 150, "MB")
        yield self._figure("the first change", 10, "ms", lambda: subject.change().wall_ms)
        yield from self._changes(changes)
        yield from self._many(min(_MANY, subject.frontends))
        yield from self._questions()
        yield self._figure("a killed worker replaced", 2, "s", self._replaced_s)
        subject.kill_daemon()
        yield self._figure("daemon killed, workers adopted", 1, "s", subject.started)
        yield from self._memory()
        yield from self._first_change(subject.kill_daemon)
        subject.daemon.kill()
        yield self._figure("all killed, serving again", 3, "s", subject.started)
        yield from self._first_change(subject.daemon.kill)

    def _step(self) -> AbstractContextManager[profile.Spent]:
        return profile.step(self._subject.processes, self._samples)

    def _figure(self, what: str, wanted: float, unit: str, work: Callable[[], float]) -> Figure:
        with self._step() as spent:
            found = work()
        return Figure(what, found, wanted, unit, spent)

    def _memory(self) -> Iterator[Figure]:
        found = self._subject.memory_kib()["daemon"] / 1024
        yield Figure("daemon's memory after it", found, 300, "MB")

    def _first_change(self, end: Callable[[], object]) -> Iterator[Figure]:
        """Behind starts, each behind such an end, and the second ones: as long after the first."""
        first_ms, second_ms = list[float](), list[float]()
        with self._step() as spent:
            for number in range(self._starts):
                if number:
                    end()
                    self._subject.started()
                for took_ms in (first_ms, second_ms):
                    # What a daemon loads once it is ready, it has loaded. And a processor that
                    # has done something else for a second has nothing of it at hand, whatever
                    # was done before: a first change is compared with one behind such a pause.
                    time.sleep(_SETTLED_S)
                    took_ms.append(self._subject.change().wall_ms)
        what = f"the first change after it, median of {self._starts}"
        yield Figure(what, statistics.median(first_ms), 10, "ms", spent)
        what = f"the second, {_SETTLED_S:g} s later"
        yield Figure(what, statistics.median(second_ms), 10, "ms", spent)

    def _changes(self, changes: int) -> Iterator[Figure]:
        with self._step() as spent:
            took_ms = sorted(self._subject.change(settle_s=0).wall_ms for _ in range(changes))
        median_ms = statistics.median(took_ms)
        yield Figure(f"one change, median of {changes}", median_ms, 10, "ms", spent)
        yield Figure("p99", took_ms[len(took_ms) * 99 // 100], 40, "ms", spent)
        yield Figure("the longest", took_ms[-1], 40, "ms", spent)

    def _many(self, count: int) -> Iterator[Figure]:
        with self._step() as spent, asking(self._subject) as slowest_s:
            took_s = self._subject.change(count=count).wall_ms / 1000
        yield Figure(f"{count} entities in one commit", took_s, 0.6, "s", spent)
        yield Figure("longest wait of a question meanwhile", slowest_s() * 1000, 50, "ms", spent)

    def _questions(self) -> Iterator[Figure]:
        subject = self._subject
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
            yield self._figure(what, wanted, "s", partial(_median_s, asked))

        def scraped() -> None:
            with urllib.request.urlopen(metrics, timeout=_DEADLINE_S) as answer:  # ours
                answer.read()

        yield self._figure("/metrics", 1, "s", partial(_median_s, scraped))

    def _replaced_s(self) -> float:
        """Return after how long as many workers serve as before."""
        subject = self._subject
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


def _median_s(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@contextmanager
def asking(subject: Subject) -> Iterator[Callable[[], float]]:
    """Within, somebody asks for the status all the time; gives how long an answer took at most."""
    # A process of its own: who makes a commit holds the lock of his interpreter while he waits for
    # the disk, and is not what is measured.
    spawning = multiprocessing.get_context("spawn")
    ours, its = spawning.Pipe()
    process = spawning.Process(target=_ask, args=(str(subject.daemon.runtime_dir), its))
    process.start()
    its.close()
    ours.recv()
    slowest_s = 0.0
    try:
        yield lambda: slowest_s
    finally:
        ours.send("enough")
        slowest_s = ours.recv()
        process.join()


def _ask(directory: str, asker: Connection) -> None:
    """Ask until told that it is enough, and say how long the slowest answer took."""
    ask(directory, "status", {})
    asker.send("ready")
    slowest_s = 0.0
    while not asker.poll(_ASK_EVERY_S):
        began = time.perf_counter()
        ask(directory, "status", {})
        slowest_s = max(slowest_s, time.perf_counter() - began)
    asker.send(slowest_s)
