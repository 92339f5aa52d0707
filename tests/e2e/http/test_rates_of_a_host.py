"""Rates over two workers: one number for the host, whoever of them is asked, ends or begins (T34).

Each request comes by a connection of its own, so that the kernel gives both workers some.
"""

from __future__ import annotations

import os
import signal
import struct
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ports, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

DAILY = {"requests": 20, "per": "24h"}
RATES: dict[str, Any] = {
    "exact": DAILY,
    "killed": DAILY,
    "committed": DAILY,
    "restarted": DAILY,
    "forgiven": DAILY,
    "listed": [DAILY, {"requests": 7, "per": "24h", "by": "frontend"}],
    "refusing": {**DAILY, "when_full": "refuse"},
    "evicting": DAILY,
    "steady": {"requests": 200, "per": "1s"},
}
DEADLINE_S = 30.0


class Host:
    """Two workers."""

    def __init__(self, directory: Path) -> None:
        self.address, self.admin = ports.address(), ports.address()
        self.daemon = Kakehi(Repo(directory), workers=2)
        self.daemon.repo.commit({"kakehi.yaml": self.document("first")})
        self.daemon.start()

    def document(self, body: str) -> dict[str, Any]:
        return {
            "settings": {"admin": self.admin, "access_log": str(self.daemon.access_log)},
            "listeners": {"plain": {"address": self.address}},
            "frontends": {
                name: {
                    "listeners": ["plain"],
                    "hostname": f"{name}.test",
                    "respond": {"status": 200, "body": body},
                    "rate_limit": rate,
                }
                for name, rate in RATES.items()
            },
        }

    def ask(self, name: str) -> int:
        with rawclient.Connection(self.address) as connection:
            return connection.get(f"{name}.test", "/").status

    def passed(self, name: str, count: int = 120) -> int:
        """How many of so many requests, four at a time; all others are refused."""
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(self.ask, [name] * count))
        assert set(found) <= {200, 429}
        return found.count(200)

    def rows(self, name: str) -> list[Any]:
        """Who is limited."""
        rows = self.daemon.json("show", "limits")["limited"]
        return [row for row in rows if row["limit"] == f"frontend/{name}/client_address"]

    def counted(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=15) as response:
            families = text_string_to_metric_families(response.read().decode())
            found = [sample for family in families for sample in family.samples]
        return sum(sample.value for sample in found if sample.name == f"kakehi_{name}")

    def replaced(self, former: set[int]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while len(set(self.daemon.worker_pids()) - former) < len(former):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host(tmp_path_factory.mktemp("host"))
    yield made
    made.daemon.stop()


def test_two_workers_let_through_what_one_would(host: Host) -> None:
    assert host.passed("exact") == 20
    [row] = host.rows("exact")
    assert row["refused"] == 100, "by both workers"


def test_each_of_several_is_one_of_the_host(host: Host) -> None:
    assert host.passed("listed") == 7
    # What was refused has used nothing of the other one up.
    host.daemon.run_cli("forgive", "frontend/listed/frontend", check=True)
    assert host.passed("listed") == 7


def test_within_a_hundredth_of_the_model(host: Host) -> None:
    """A second's worth at once, and 200 in each second: nobody pauses for so long."""
    begun = time.monotonic()
    passed = 0
    while time.monotonic() < begun + 3:
        passed += host.passed("steady", 40)
    # None is left at the end, so that the time between counts whole.
    while more := host.passed("steady", 4):
        passed += more
    model = 200 + 200 * (time.monotonic() - begun)
    assert model * 0.99 <= passed <= model * 1.01


def test_one_that_is_killed_gives_nobody_anything_back(host: Host) -> None:
    assert host.passed("killed") == 20
    former = set(host.daemon.worker_pids())
    for pid in former:
        os.kill(pid, signal.SIGKILL)
    host.replaced(former)
    assert host.passed("killed", 40) == 0


def test_neither_does_a_commit(host: Host) -> None:
    assert host.passed("committed") == 20
    host.daemon.commit({"kakehi.yaml": host.document("second")})
    assert host.passed("committed", 40) == 0


def test_neither_does_another_daemon(host: Host) -> None:
    assert host.passed("restarted") == 20
    former = host.daemon.worker_pids()
    assert host.daemon.process is not None
    host.daemon.process.kill()
    host.daemon.process.wait(DEADLINE_S)
    assert host.passed("restarted", 40) == 0
    host.daemon.start()
    assert host.daemon.worker_pids() == former, "they have gone on"
    victim = former[0]
    os.kill(victim, signal.SIGKILL)
    host.replaced({victim})
    assert host.passed("restarted", 40) == 0


def test_who_is_forgiven_is_by_all(host: Host) -> None:
    assert host.passed("forgiven") == 20
    limit = "frontend/forgiven/client_address"
    host.daemon.run_cli("forgive", limit, "--who", "127.0.0.1", check=True)
    assert host.rows("forgiven") == []
    assert host.passed("forgiven") == 20
    host.daemon.run_cli("forgive", "--all", check=True)
    assert host.passed("forgiven") == 20


def test_one_more_than_there_is_room_for(host: Host) -> None:
    """All places are taken by keys that have an hour to wait."""
    places = b"".join(
        struct.pack("<QQ", number, time.monotonic_ns() + 3_600_000_000_000)
        for number in range(1, 65_537)
    )
    with (host.daemon.runtime_dir / "rates").open("r+b") as file:
        os.pwrite(file.fileno(), places, 4096)
    before = [host.counted(f"rate_keys_{what}_total") for what in ("refused", "evicted")]
    assert host.passed("refusing", 10) == 0
    [row] = host.rows("refusing")
    assert row["wait_ms"] <= 3_600_000
    assert host.passed("evicting", 30) == 20
    after = [host.counted(f"rate_keys_{what}_total") for what in ("refused", "evicted")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [10, 1]
    host.daemon.run_cli("forgive", "--all", check=True)
    assert host.passed("refusing", 30) == 20
