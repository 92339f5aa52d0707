"""Whoever dies, at whatever moment: what was accepted stays, and only its own requests are lost."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import processes, websocket
from tests.harness.load import OpenLoop, Sample
from tests.harness.manager import ServiceManager
from tests.harness.rawbackend import RawBackend
from tests.harness.rawclient import Connection
from tests.harness.site import Site

LONG = bool(os.environ.get("KAKEHI_TEST_LONG"))
KILLS, TIMEOUT_S = (500, 1800) if LONG else (50, 300)
SEED = int(os.environ.get("KAKEHI_TEST_SEED", "8"))
# A commit takes about 50 ms from git to done: this reaches before, into and behind it.
MOMENT_MAX_S = 0.1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, ["steady", "red", "blue"]) as made:
        yield made


@pytest.fixture
def manager(site: Site) -> Iterator[ServiceManager]:
    with ServiceManager(site.daemon.base) as made:
        yield made


def files(site: Site, backend: str) -> dict[str, Any]:
    clusters = {"steady": ["steady"], "main": [backend]}
    return {"kakehi.yaml": site.document(clusters, {"steady": "steady", "main": "main"})}


def trace(number: int) -> dict[str, Any]:
    """A frontend of its own: what proves at the end that this commit was not lost."""
    frontend = {"listeners": ["main"], "hostname": f"trace-{number}.test", "cluster": "steady"}
    return {f"trace-{number}.yaml": {"frontends": {f"trace-{number}": frontend}}}


class Killer:
    """Kills, and remembers which clients had a connection to a worker that it killed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.cut_off: set[int] = set()
        self.blows: list[tuple[float, str]] = []
        self._victims: set[int] = set()

    def kill_daemon(self) -> None:
        self.blows.append((time.monotonic(), f"daemon {self._site.daemon.pid}"))
        assert self._site.daemon.leave(signal.SIGKILL) == -signal.SIGKILL
        self._site.daemon.return_(wait=False)

    def kill_worker(self, number: int) -> bool:
        """False when there is no such process at the moment."""
        pid = self._site.worker_pids()[number]
        if not pid:  # not started yet; and 0 would be ourselves
            return False
        self._victims.add(pid)
        try:
            # Stopped, its connections cannot change any more until it is dead.
            processes.stop(pid)
            self.cut_off |= processes.clients(pid, self._site.address)
            self.blows.append((time.monotonic(), f"worker {number} {pid}"))
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            return False
        return True

    def blame(self, failures: list[Sample]) -> str:
        """For people: what had been killed before each sort of failure."""
        sorts: Counter[tuple[str, str]] = Counter()
        for sample in failures:
            before = [who for at, who in self.blows if at < sample.ended]
            sorts[", ".join(before[-3:]), sample.error or str(sample.status)] += 1
        return "\n".join(f"{count} times {sort}" for sort, count in sorts.most_common(40))

    def rest(self) -> None:
        """Wait until the last victim has been missed and replaced."""

        def rests() -> bool:
            workers = self._site.daemon.ask("status")["workers"]
            running = {worker["state"] for worker in workers} == {"running"}
            return running and not self._victims & {worker["pid"] for worker in workers}

        processes.wait_until(rests, "every victim is replaced")


@pytest.mark.timeout(TIMEOUT_S)
def test_fifty_kills_at_random_moments_while_committing_under_load(
    site: Site, manager: ServiceManager, tmp_path: Path
) -> None:
    """Any process, at any moment, also while another one is dead; as a service, as deployed."""
    print(f"KAKEHI_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    site.daemon.manager = manager
    site.start(files(site, "red"))
    assert len(manager.names) == 2
    killer = Killer(site)
    accepted: list[str] = []
    hosts = ["steady.test", "main.test"]
    kills = commits = 0
    backend = sha = ""
    with OpenLoop(
        site.address, hosts, tmp_path / "load", rate=150, connections=12, fresh=4
    ) as load:
        while kills < KILLS:
            backend = ("blue", "red")[commits % 2]
            sha = site.repo.commit({**files(site, backend), **trace(commits)}, f"{commits}")
            commits += 1
            # Not a wait for something, but the moment of the blow.
            processes.pause(chance.uniform(0, MOMENT_MAX_S))
            victim = chance.choice([0, 1, None])
            if victim is None:
                killer.kill_daemon()
                kills += 1
            else:
                kills += killer.kill_worker(victim)
            if chance.random() < 0.5 and site.daemon.outcome(sha) == "applied":
                accepted.append(sha)
        killer.rest()
        assert site.daemon.outcome(sha) == "applied"
        accepted.append(sha)
        assert site.everywhere("main.test") == {backend}
        load.wait_for(50)
        load.stop()

    generation, digest = site.running()
    assert digest == site.committed_digest()
    status = site.daemon.status()
    assert status["commit"] == sha == site.repo.head()
    assert status["last_error"] is None
    assert {worker["state"] for worker in status["workers"]} == {"running"}
    for each in accepted:
        site.repo.git("merge-base", "--is-ancestor", each, status["commit"])
    for number in range(commits):
        assert set(site.kept(f"trace-{number}.test").values()) == {"steady"}
    assert len(accepted) > KILLS // 4

    applied = [entry for entry in site.history(1000) if entry["outcome"] == "applied"]
    generations = [entry["generation"] for entry in applied][::-1]
    assert generations == sorted(set(generations)), "a generation stands for two commits"
    assert generations[-1] == generation

    others = [sample for sample in load.failures if sample.port not in killer.cut_off]
    assert others == [], f"requests failed that no killed worker had:\n{killer.blame(others)}"
    assert [port for _, port in load.closed if port not in killer.cut_off] == []
    assert {sample.status for sample in load.samples} <= {200, 0}
    for sample in load.samples:
        if sample.host == "steady.test" and not sample.failed:
            assert sample.body == "steady"


def test_while_the_reconciler_is_dead_nothing_fails_and_its_successor_adopts(
    site: Site, tmp_path: Path
) -> None:
    with RawBackend(websocket.serve_echo) as echo:
        document = site.document(
            {"steady": ["steady"], "echo": [echo.address]}, {"steady": "steady", "echo": "echo"}
        )
        site.start({"kakehi.yaml": document})
        before = site.identity()
        running = site.running()
        with (
            Connection(site.address) as connection,
            OpenLoop(
                site.address, ["steady.test"], tmp_path / "load", rate=200, connections=8, fresh=2
            ) as load,
        ):
            client = websocket.Client(connection, "echo.test")
            for number in (signal.SIGKILL, signal.SIGTERM):
                site.daemon.leave(number)
                load.wait_for(100)
                client.echo(b"nobody is in control")
                missed = site.repo.commit({}, "committed meanwhile")
                site.daemon.return_()
                assert site.identity() == before
                assert site.running() == running
                assert site.daemon.status()["commit"] == missed
                client.echo(b"somebody is in control")
            added = site.commit(trace(1))
            assert site.running() == (running[0] + 1, site.committed_digest(added))
            load.stop()
    assert load.failures == []
    assert load.closed == []
    assert site.identity() == before


def test_everything_killed_and_the_repository_gone_the_last_generation_serves_again(
    site: Site,
) -> None:
    site.start(files(site, "red"))
    sha = site.commit({**files(site, "blue"), **trace(1)})
    running = site.running()
    old = site.worker_pids()
    elsewhere = site.return_without_repository()
    assert site.running() == running
    assert not set(old) & set(site.worker_pids())
    assert site.everywhere("main.test") == {"blue"}
    assert site.everywhere("trace-1.test") == {"steady"}
    assert site.everywhere("nobody.test") == {"404"}
    processes.wait_until(
        lambda: site.daemon.ask("status")["source"]["state"] == "holding", "status says so"
    )
    status = site.daemon.status()
    assert status["commit"] == sha
    assert str(site.repo.directory) in status["source"]["problem"]

    # It comes back by itself, and so does following it.
    shutil.move(elsewhere, site.repo.directory)
    site.commit(files(site, "red"))
    assert site.everywhere("main.test") == {"red"}
    assert site.daemon.status()["source"]["state"] == "following"


def test_a_killed_workers_successor_takes_its_sockets_and_the_connections_that_wait(
    site: Site,
) -> None:
    site.start(files(site, "red"))
    victim, other = site.worker_pids()
    sockets = site.identity()[victim][1]
    others = site.identity()[other]
    with contextlib.ExitStack() as stack:
        # Nobody accepts on the stopped worker's socket: these connections wait in its queue.
        processes.stop(victim)
        waiting = [stack.enter_context(Connection(site.address)) for _ in range(40)]
        for connection in waiting:
            connection.send(b"GET / HTTP/1.1\r\nHost: main.test\r\n\r\n")
        os.kill(victim, signal.SIGKILL)
        for connection in waiting:
            assert connection.read_response().body == b"red"
    processes.wait_until(
        lambda: {worker["state"] for worker in site.daemon.ask("status")["workers"]} == {"running"},
        "the successor is in service",
    )
    successor, survivor = site.worker_pids()
    assert survivor == other
    assert site.identity()[other] == others
    assert successor != victim
    assert site.identity()[successor][1] == sockets
