"""Who has nothing to do sleeps: an idle proxy is hardly ever woken, and costs nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.measuring.accounting import cpu_ns
from tests.harness import processes
from tests.harness.rawclient import Connection
from tests.harness.site import Site

# Wake-ups and processor time, of half a percent.
pytestmark = pytest.mark.timed

SETTLED_S = 1
WATCHED_S = 10
WAKE_UPS_A_SECOND_MAX = 2
CPU_SHARE_MAX = 0.005
# Watching the repository is a loop of sleeps, and the poll is the safety net under it.
RECONCILER_CPU_SHARE_MAX = 0.05
IDLE_CONNECTIONS = 50


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, ["red"]) as made:
        made.start({"kakehi.yaml": made.document({"main": ["red"]}, {"main": "main"})})
        yield made


def test_an_idle_worker_wakes_less_than_twice_a_second_and_costs_nothing(site: Site) -> None:
    """With connections that are open and idle, on both sides of it, and after a commit."""
    with ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            client = stack.enter_context(Connection(site.address))
            assert client.get("main.test").body == b"red"
        site.commit({"kakehi.yaml": site.document({"main": ["red"]}, {"also": "main"})})
        pids = [*site.worker_pids(), site.daemon.pid]
        # What a commit leaves to be done is done.
        processes.pause(SETTLED_S)
        before = {pid: (processes.wake_ups(pid), cpu_ns([pid])) for pid in pids}
        began = time.monotonic()
        processes.pause(WATCHED_S)
        elapsed = time.monotonic() - began
        after = {pid: (processes.wake_ups(pid), cpu_ns([pid])) for pid in pids}
        assert sum(len(processes.clients(pid, site.address)) for pid in pids[:-1]) == (
            IDLE_CONNECTIONS
        )
    for pid in pids:
        wake_ups = (after[pid][0] - before[pid][0]) / elapsed
        share = (after[pid][1] - before[pid][1]) / 1e9 / elapsed
        who = "the reconciler" if pid == site.daemon.pid else f"worker {pid}"
        print(f"{who}: {wake_ups:.2f} wake-ups a second, {share:.2%} of a core")
        if pid == site.daemon.pid:
            assert share < RECONCILER_CPU_SHARE_MAX, who
        else:
            assert wake_ups < WAKE_UPS_A_SECOND_MAX, who
            assert share < CPU_SHARE_MAX, who
