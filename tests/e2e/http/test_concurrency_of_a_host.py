"""Requests in flight over two workers: one count for the host, whichever of them has which.

Each request comes by a connection of its own, so that the kernel gives both workers some.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

MOST = 8
EIGHT = {"requests": MOST}
FRONTENDS: dict[str, dict[str, Any]] = {
    "exact": {"concurrency": EIGHT},
    "last": {"concurrency": {"requests": 1, "by": "frontend"}},
    "answered": {"concurrency": EIGHT, "rate_limit": {"requests": 1, "per": "24h"}},
    "killed": {"concurrency": EIGHT},
    "committed": {"concurrency": EIGHT},
    "restarted": {"concurrency": EIGHT},
    "shown": {"concurrency": EIGHT},
    "shared": {"policies": ["few"]},
    "tried": {"concurrency": {"requests": 1, "dry_run": True}},
}


def waits(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.wait_for_go()
    exchange.send(wire.response(b"late"))


class Host:
    """Two workers, whose backend answers when it is told to."""

    def __init__(self, directory: Path, *, is_table_there: bool = True) -> None:
        self.raw = RawBackend()
        self.address = ports.address()
        self.daemon = Kakehi(Repo(directory), workers=2)
        self.daemon.repo.commit({"kakehi.yaml": self.document()})
        if not is_table_there:
            (self.daemon.runtime_dir / "rates" / "in-the-way").mkdir(parents=True)
            self.daemon.runtime_dir.chmod(0o700)
        self.daemon.start()

    def document(self, **beside: Any) -> dict[str, Any]:
        frontends = {
            name: {"listeners": ["plain"], "hostname": f"{name}.test", "cluster": "raw", **keys}
            for name, keys in FRONTENDS.items()
        }
        return {
            "settings": {"access_log": str(self.daemon.access_log)},
            "listeners": {"plain": {"address": self.address}},
            "clusters": {"raw": {"backends": {"raw": {"address": self.raw.address}}}},
            "policies": {"few": {"concurrency": {"requests": 3, "by": {"header": "x-key"}}}},
            "frontends": frontends,
            **beside,
        }

    def begin(self, name: str, *fields: str) -> rawclient.Connection | None:
        """A request that is in flight until the backend may go on; none if it is refused."""
        before = len(self.raw.requests)
        connection = rawclient.Connection(self.address)
        head = "\r\n".join(["GET / HTTP/1.1", f"Host: {name}.test", *fields, "", ""])
        connection.send(head.encode())
        processes.wait_until(
            lambda: len(self.raw.requests) > before or connection.has_bytes(), "it has got there"
        )
        if len(self.raw.requests) > before:
            return connection
        assert connection.read_response().status == 429
        connection.close()
        return None

    def crowd(self, name: str) -> list[rawclient.Connection]:
        """All that may be in flight at a time, of which each worker has some."""
        while True:
            held = self.all_that_get_in(name)
            if 0 not in self.in_flight():
                return held
            self.finish(held)
            self.raw.go.clear()

    def all_that_get_in(self, name: str) -> list[rawclient.Connection]:
        return [each for _ in range(3 * MOST) if (each := self.begin(name)) is not None]

    def warnings(self) -> list[str]:
        said = self.daemon.status()["warnings"]
        return [each for each in said if "requests in flight" in each]

    def in_flight(self) -> list[int]:
        return [worker["requests"] for worker in self.daemon.status()["workers"]]

    def finish(self, held: list[rawclient.Connection]) -> None:
        self.raw.go.set()
        for each in held:
            assert each.read_response().status == 200
            each.close()
        processes.wait_until(lambda: set(self.in_flight()) == {0}, "nobody is in flight")

    def status(self, name: str) -> int:
        """Of a request that nobody holds up."""
        with rawclient.Connection(self.address) as connection:
            return connection.get(f"{name}.test").status


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("host"))
    yield host
    host.daemon.stop()
    host.raw.stop()


@pytest.fixture
def host(made: Host) -> Iterator[Host]:
    made.raw.reset()
    made.raw.go.clear()
    made.raw.script = waits
    yield made
    made.raw.go.set()


def test_two_workers_let_in_what_one_would(host: Host) -> None:
    held = host.crowd("exact")
    assert len(held) == MOST
    assert sum(host.in_flight()) == MOST
    host.finish(held)
    host.raw.go.clear()
    again = host.crowd("exact")
    assert len(again) == MOST, "all places are free again"
    host.finish(again)


def test_the_last_place_is_one_persons_and_never_nobodys(host: Host) -> None:
    """Four at a time ask for one place, through both workers: it is never had twice."""
    seen, most = 0, 0
    lock = host.raw.changed

    def briefly(exchange: Exchange) -> None:
        nonlocal seen, most
        exchange.read_body()
        with lock:
            seen += 1
            most = max(most, seen)
        with lock:
            seen -= 1
        exchange.send(wire.response(b"ok"))

    host.raw.script = briefly
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(host.status, ["last"] * 400))
    assert set(found) == {200, 429}
    assert most == 1
    # Whoever comes alone gets it, once the other has left: his answer may be there a little before.
    for _ in range(10):
        processes.wait_until(lambda: host.in_flight() == [0, 0], "nobody is in flight")
        assert host.status("last") == 200


def test_what_is_answered_otherwise_has_had_no_place(host: Host) -> None:
    held = host.begin("answered")
    assert held is not None
    assert {host.status("answered") for _ in range(4 * MOST)} == {429}
    entries = host.daemon.wait_for_access(lambda it: it["frontend"] == "answered", 4 * MOST)
    assert {entry["outcome"] for entry in entries} == {"rate_limited"}, "nobody was one too many"
    host.finish([held])


def test_one_that_is_killed_gives_its_places_back_at_once(host: Host) -> None:
    held = host.crowd("killed")
    counts = host.in_flight()
    former = host.daemon.worker_pids()
    os.kill(former[0], signal.SIGKILL)
    processes.wait_until(
        lambda: len(set(host.daemon.worker_pids()) - set(former)) == 1, "there is another"
    )
    again = host.all_that_get_in("killed")
    assert len(again) == counts[0], f"{counts}"
    host.raw.go.set()
    for each in held + again:
        each.close()
    processes.wait_until(lambda: host.in_flight() == [0, 0], "nobody is in flight")
    host.raw.go.clear()
    last = host.crowd("killed")
    assert len(last) == MOST
    host.finish(last)


def test_neither_a_commit_nor_another_daemon_gives_a_place_away(host: Host) -> None:
    held = host.crowd("restarted")
    former = host.daemon.worker_pids()
    host.daemon.commit({"kakehi.yaml": host.document(), "more.yaml": {"policies": {"other": {}}}})
    assert host.begin("restarted") is None
    assert host.daemon.process is not None
    host.daemon.process.kill()
    host.daemon.process.wait(30)
    assert host.begin("restarted") is None
    host.daemon.start()
    assert host.daemon.worker_pids() == former, "they have gone on"
    assert host.begin("restarted") is None
    host.finish(held)


def test_who_counts_alone_is_told(tmp_path: Path) -> None:
    """Where the memory of the host cannot be had: its name is a directory's."""
    host = Host(tmp_path, is_table_there=False)
    try:
        assert host.warnings() == [], "nobody has counted anything"
        host.raw.script = lambda exchange: exchange.send(wire.response(b"ok"))
        assert host.status("exact") == 200
        processes.wait_until(lambda: len(host.warnings()) == 1, "status says so")
        assert re.match(r"worker \d counts requests in flight by itself", host.warnings()[0])
    finally:
        host.daemon.stop()
        host.raw.stop()


def test_who_has_how_many_is_shown_once_for_the_host(host: Host) -> None:
    held = host.crowd("shown")
    keys = ["X-Key: one", "X-Key: one", "X-Key: other", "X-None: 0"]
    held += [each for key in keys if (each := host.begin("shared", key)) is not None]
    rows = host.daemon.json("show", "limits")["in_flight"]
    assert rows[0] == {
        "limit": "frontend/shown/concurrency",
        "who": "127.0.0.1",
        "requests": MOST,
        "most": MOST,
    }
    shared = [row for row in rows if row["limit"] == "policy/few/concurrency"]
    assert [(row["requests"], row["most"]) for row in shared] == [(2, 3), (1, 3), (1, 3)]
    assert {row["who"].partition(":")[0] for row in shared} == {"hash", "none"}
    assert len({row["who"] for row in shared}) == 3
    told = host.daemon.run_cli("show", "limits", check=True).stdout
    assert host.warnings() == [], "they count together"
    assert f"frontend/shown/concurrency  127.0.0.1      {MOST}          {MOST}" in told
    done = host.daemon.run_cli("forgive", "policy/few/concurrency")
    assert (done.returncode, done.stdout) == (64, "")
    assert "end by themselves" in done.stderr
    # What it bounds no more is not told of.
    document = host.document()
    del document["frontends"]["shown"]["concurrency"]
    host.daemon.commit({"kakehi.yaml": document})
    rows = host.daemon.json("show", "limits")["in_flight"]
    assert {row["limit"] for row in rows} == {"policy/few/concurrency"}
    host.finish(held)
    host.daemon.commit({"kakehi.yaml": host.document()})
    assert host.daemon.json("show", "limits")["in_flight"] == []
