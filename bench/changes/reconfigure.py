"""What it costs to apply a change of one backend, as the number of frontends grows.

`bench/reconfigure`. For each size a real daemon with two workers follows a real repository; all of
them are alive at once, and their changes are interleaved. A change is measured from the moment the
branch points to the new commit until `wait` says that every worker runs it. CPU time is what daemon
and workers spent until shortly after that, so that what is put off is counted as well.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pygit2

from bench.changes import reload
from bench.changes.tenants import Tenants
from bench.measuring import report
from bench.measuring.accounting import cpu_ns
from reconciler.cli.asking import ask
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.ports import free_port
from tests.harness.repo import Repo

WORKERS = 2
# The first changes find caches and memory cold; they are made, but not counted.
_WARM_UP = 3
# What a daemon puts off until the workers are through, it does within this time.
_SETTLE_S = 0.1
_LOAD_S_MAX = 1800
_BRANCH = "refs/heads/main"
_AUTHOR = pygit2.Signature("Kakehi bench", "bench@kakehi.test")
# Nobody listens there: a backend that gets no request is never connected to.
_FIRST_PORT = 20_000


@dataclass(frozen=True, slots=True)
class Cost:
    """One change."""

    wall_ms: float
    daemon_ms: float
    workers_ms: float

    @property
    def cpu_ms(self) -> float:
        """The CPU time of all processes."""
        return self.daemon_ms + self.workers_ms


class Subject:
    """A daemon with so many frontends, and the commits that change it."""

    def __init__(
        self, base: Path, frontends: int, per_file: int = 50, metrics_port: int | None = None
    ) -> None:
        self.frontends = frontends
        self.tenants = Tenants(
            frontends, free_port(), _FIRST_PORT, per_file, metrics_port=metrics_port
        )
        self.daemon = Kakehi(Repo(base / f"repository-{frontends}"), workers=WORKERS)
        self.daemon.repo.commit(self.tenants.files())
        self._repository = pygit2.Repository(str(self.daemon.repo.directory))
        self._number = 0
        self.worker_pids: list[int] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[Subject]:
        """Within, the daemon serves."""
        self.load_s = self.started()
        self.loaded_kib = self.memory_kib()
        # Everything is killed, and what was recorded is served again.
        self.daemon.kill()
        self.restart_s = self.started()
        try:
            yield self
        finally:
            self.daemon.stop(check=False)

    def started(self) -> float:
        """Start the daemon; return after how many seconds every worker has the newest commit."""
        began = time.perf_counter()
        self.daemon.start(wait=False)
        self.daemon.wait(self.daemon.repo.head(), _LOAD_S_MAX)
        took_s = time.perf_counter() - began
        self.worker_pids = self.daemon.worker_pids()
        return took_s

    @property
    def daemon_pid(self) -> int:
        """The reconciler's process."""
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def processes(self) -> dict[str, list[int]]:
        """The processes that are there, by what they are."""
        process = self.daemon.process
        return {
            "daemon": [process.pid] if process is not None else [],
            "workers": self.worker_pids,
        }

    def kill_daemon(self) -> None:
        """End the daemon alone, without a chance to prepare for it."""
        assert self.daemon.process is not None
        self.daemon.process.kill()
        self.daemon.process.wait()

    def change(self, *, count: int = 1, settle_s: float = _SETTLE_S) -> Cost:
        """Move so many backends by one commit, and wait until every worker has it."""
        commit = self._commit(count)
        reference = self._repository.references[_BRANCH]
        daemon_ns, workers_ns = cpu_ns([self.daemon_pid]), cpu_ns(self.worker_pids)
        began = time.perf_counter()
        reference.set_target(commit)
        answer = ask(str(self.daemon.runtime_dir), "wait", {"commit": str(commit)})
        wall_s = time.perf_counter() - began
        if answer["outcome"] != "applied":
            raise SystemExit(f"bench: {commit} was {answer['outcome']}: {answer['message']}")
        time.sleep(settle_s)
        return Cost(
            wall_ms=wall_s * 1e3,
            daemon_ms=(cpu_ns([self.daemon_pid]) - daemon_ns) / 1e6,
            workers_ms=(cpu_ns(self.worker_pids) - workers_ns) / 1e6,
        )

    def check_out(self) -> None:
        """Bring the working tree to the newest commit, as `git pull` does."""
        self.daemon.repo.git("reset", "--quiet", "--hard")
        # What was written in the same second as git's index is read again by whoever compares.
        time.sleep(1)
        self.daemon.repo.git("update-index", "-q", "--refresh")

    def memory_kib(self) -> dict[str, int]:
        """What the daemon and one worker have for themselves: no files, no shared memory."""
        return {
            "daemon": resident_kib(self.daemon_pid),
            "worker": resident_kib(self.worker_pids[0]),
        }

    def _commit(self, count: int) -> pygit2.Oid:
        """A commit that nothing points to yet: writing objects is git's work, not Kakehi's."""
        repository = self._repository
        parent = repository.references[_BRANCH].peel(pygit2.Commit)
        index = pygit2.Index()
        index.read_tree(parent.tree)
        for _ in range(count):
            self._number += 1
            # Walks through all files, and never comes back to the same port.
            tenant = self._number * 7919 % self.frontends
            path, text = self.tenants.move(tenant, _FIRST_PORT + self._number % 10_000)
            blob = repository.create_blob(text.encode())
            index.add(pygit2.IndexEntry(path, blob, pygit2.enums.FileMode.BLOB))
        tree = index.write_tree(repository)
        message = f"Move {count} tenants"
        return repository.create_commit(None, _AUTHOR, _AUTHOR, message, tree, [parent.id])


def measure(subjects: Sequence[Subject], changes: int) -> dict[int, list[Cost]]:
    """The cost of each change by the number of frontends; the sizes take turns."""
    for subject in subjects:
        for _ in range(_WARM_UP):
            subject.change()
    costs: dict[int, list[Cost]] = {subject.frontends: [] for subject in subjects}
    for number in range(changes):
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            costs[subject.frontends].append(subject.change())
    return costs


def run(frontends: Sequence[int], changes: int, per_file: int, *, peers: bool) -> None:
    """Measure, print, and write a file for programs."""
    with (
        tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base,
        contextlib.ExitStack() as all_,
    ):
        subjects = []
        for count in frontends:
            print(f"starting with {count} frontends", flush=True)
            subject = Subject(Path(base), count, per_file)
            subjects.append(all_.enter_context(subject.running()))
        costs = measure(subjects, changes)
        memory = {subject.frontends: subject.memory_kib() for subject in subjects}
        starts = show_starts(subjects)
    print(f"\nfirst load, and start after everything was killed\n{starts}")
    print(f"\none backend changed, {changes} times at each size, {WORKERS} workers, ms")
    print(show(costs))
    found: dict[str, Any] = {"changes": changes, "per_file": per_file, "costs": to_json(costs)}
    found["memory_kib"] = memory
    found["starts"] = {
        str(each.frontends): {
            "load_s": each.load_s,
            "restart_s": each.restart_s,
            "loaded_kib": each.loaded_kib,
        }
        for each in subjects
    }
    if peers:
        found["reloads"] = reload.run(frontends)
    print(f"\nwritten to {report.save('reconfigure', found)}")


def show_starts(subjects: Sequence[Subject]) -> str:
    """The table of what it takes to begin, with the daemon's own memory behind it."""
    head = ["frontends", "first load, s", "daemon, MB", "again, s", "daemon, MB"]
    rows = [
        [
            str(each.frontends),
            f"{each.load_s:.1f}",
            f"{each.loaded_kib['daemon'] / 1024:.0f}",
            f"{each.restart_s:.1f}",
            f"{each.memory_kib()['daemon'] / 1024:.0f}",
        ]
        for each in subjects
    ]
    return report.table(head, rows)


def show(costs: dict[int, list[Cost]]) -> str:
    """The table, and the ratio of the largest to the smallest size."""
    head = ["frontends", "commit → done", "CPU daemon", "CPU workers", "CPU all"]
    rows = [
        [
            str(frontends),
            report.Spread.of([each.wall_ms for each in found]).show(1),
            report.Spread.of([each.daemon_ms for each in found]).show(1),
            report.Spread.of([each.workers_ms for each in found]).show(2),
            report.Spread.of([each.cpu_ms for each in found]).show(1),
        ]
        for frontends, found in costs.items()
    ]
    least, most = min(costs), max(costs)
    return (
        f"{report.table(head, rows)}\n"
        f"CPU time of a change at {most} frontends / at {least}: {growth(costs):.2f} "
        f"(at most 2.00 wanted), wall clock {_growth_of(costs, 'wall_ms'):.2f}"
    )


def growth(costs: dict[int, list[Cost]]) -> float:
    """How much more CPU time the largest size takes than the smallest, by their medians."""
    return _growth_of(costs, "cpu_ms")


def _growth_of(costs: dict[int, list[Cost]], field: str) -> float:
    least, most = (
        report.Spread.of([getattr(each, field) for each in costs[size]]).median
        for size in (min(costs), max(costs))
    )
    return least and most / least


def to_json(costs: dict[int, list[Cost]]) -> dict[str, Any]:
    """Every change by size, and the growth."""
    return {
        "growth": growth(costs),
        "changes": {
            str(size): [
                {
                    "wall_ms": each.wall_ms,
                    "daemon_ms": each.daemon_ms,
                    "workers_ms": each.workers_ms,
                }
                for each in found
            ]
            for size, found in costs.items()
        },
    }
