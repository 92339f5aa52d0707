"""One distinct core a worker: every thread of it, from its start, and its successor's too."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from bench.measuring.accounting import pinned
from tests.harness import processes
from tests.harness.load import OpenLoop
from tests.harness.rawclient import Connection
from tests.harness.site import Site

CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), ["red"], workers=min(2, len(CORES))) as made:
        made.start({"kakehi.yaml": made.document({"main": ["red"]}, {"main": "main"})})
        yield made


def cores(site: Site) -> dict[int, int]:
    """Worker → its core, after making sure that the kernel and the status agree."""
    found = {}
    for worker in site.daemon.ask("status")["workers"]:
        assert processes.cores(worker["pid"]) == {frozenset({worker["cpu"]})}, worker
        found[worker["id"]] = worker["cpu"]
    return found


def is_replaced(site: Site, number: int, old: int) -> bool:
    worker = site.daemon.ask("status")["workers"][number]
    return bool(worker["state"] == "running" and worker["pid"] != old)


def test_each_worker_has_a_core_of_its_own_also_after_a_respawn(site: Site) -> None:
    before = cores(site)
    assert len(before) == site.daemon.workers
    assert len(set(before.values())) == len(before), "two workers share a core"
    assert set(before.values()) <= set(CORES)
    for number in before:
        old = site.worker_pids()[number]
        os.kill(old, signal.SIGKILL)
        processes.wait_until(partial(is_replaced, site, number, old), "the successor is in service")
        assert cores(site) == before
    assert site.everywhere("main.test") == {"red"}


def test_a_worker_runs_where_it_is_pinned_while_it_serves(site: Site, tmp_path: Path) -> None:
    expected = cores(site)
    pids = dict(enumerate(site.worker_pids()))
    with OpenLoop(site.address, ["main.test"], tmp_path / "load", rate=400, fresh=2) as load:
        for _ in range(5):
            load.wait_for(50)
            for number, core in expected.items():
                assert processes.last_cores(pids[number]) == {core}
        load.stop()
    assert load.failures == []


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core")
def test_connections_go_to_the_core_that_their_packets_come_to(site: Site) -> None:
    """Over loopback that is the core of the client. By chance all of them would not."""
    cores(site)
    site.settings["accept_by_core"] = True
    document = site.document({"main": ["red"]}, {"main": "main"})
    site.commit({"kakehi.yaml": document})
    for core, number in {core: number for number, core in cores(site).items()}.items():
        with ExitStack() as stack, pinned(core):
            before = settled(site)
            for _ in range(24):
                client = stack.enter_context(Connection(site.address))
                assert client.get("main.test").status == 200
            grown = {each: count - before[each] for each, count in connections(site).items()}
            assert grown[number] == 24, grown
    # A listener that comes later, and one whose worker has a successor, are no others.
    old = site.worker_pids()[0]
    os.kill(old, signal.SIGKILL)
    processes.wait_until(partial(is_replaced, site, 0, old), "the successor is in service")
    with ExitStack() as stack, pinned(cores(site)[0]):
        before = settled(site)
        for _ in range(24):
            stack.enter_context(Connection(site.address)).get("main.test")
        assert connections(site)[0] - before[0] == 24
    site.settings["accept_by_core"] = False
    site.commit({"kakehi.yaml": site.document({"main": ["red"]}, {"main": "main"})})
    with ExitStack() as stack, pinned(cores(site)[0]):
        before = settled(site)
        for _ in range(40):
            stack.enter_context(Connection(site.address)).get("main.test")
        assert connections(site)[0] - before[0] < 40, "any worker again"


def settled(site: Site) -> dict[int, int]:
    """How many connections each worker has, once those that were closed are no more."""
    before = connections(site)
    while True:
        time.sleep(0.3)
        now = connections(site)
        if now == before:
            return now
        before = now


def connections(site: Site) -> dict[int, int]:
    """How many connections each worker has."""
    workers = site.daemon.ask("status")["workers"]
    return {worker["id"]: worker["connections"] for worker in workers}


def test_the_reconciler_is_not_pinned(site: Site) -> None:
    assert processes.cores(site.daemon.pid) == {frozenset(CORES)}


def test_a_reconciler_that_came_later_leaves_workers_where_they_are(site: Site) -> None:
    before = cores(site)
    site.daemon.leave()
    site.daemon.return_()
    assert cores(site) == before
