"""How many requests of one sort may be in flight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

FRONTENDS: dict[str, dict[str, Any]] = {
    "two": {"concurrency": {"requests": 2}},
    "shared-a": {"policies": ["shared"]},
    "shared-b": {"policies": ["shared"]},
    "whole": {"concurrency": {"requests": 1, "by": "frontend"}},
    "key": {"concurrency": {"requests": 1, "by": {"header": "x-api-key"}}},
    "tried": {"concurrency": {"requests": 1, "dry_run": True}},
    "open": {},
}


def waits(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.wait_for_go()
    exchange.send(wire.response(b"late"))


class Crowded:
    """One worker, whose backend answers when it is told to."""

    def __init__(self, directory: Path) -> None:
        self.raw = RawBackend()
        self.plain, self.told = ports.address(), ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        document = {
            "settings": {"access_log": str(self.daemon.access_log)},
            "listeners": {
                "plain": {"address": self.plain, "h2c": True},
                "told": {"address": self.told, "proxy_protocol": ["127.0.0.0/8"]},
            },
            "clusters": {"raw": {"backends": {"raw": {"address": self.raw.address}}}},
            "policies": {"shared": {"concurrency": {"requests": 1}}},
            "frontends": {
                name: {
                    "listeners": ["plain", "told"],
                    "hostname": f"{name}.test",
                    "cluster": "raw",
                    **keys,
                }
                for name, keys in FRONTENDS.items()
            },
        }
        self.daemon.repo.commit({"kakehi.yaml": document})
        self.daemon.start()

    def begin(self, name: str, *fields: str, client: str = "") -> rawclient.Connection:
        """A request that is in flight until the backend may go on."""
        before = len(self.raw.requests)
        connection = rawclient.Connection(self.told if client else self.plain)
        if client:
            connection.send(f"PROXY TCP4 {client} 192.0.2.200 56324 80\r\n".encode())
        head = "\r\n".join(["GET / HTTP/1.1", f"Host: {name}.test", *fields, "", ""])
        connection.send(head.encode())
        self.raw.wait_for_requests(before + 1)
        return connection

    def status(self, name: str, *fields: str) -> int:
        """Of a request that is not to get to the backend."""
        with rawclient.Connection(self.plain) as connection:
            return connection.get(f"{name}.test", "/", *fields).status


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowded]:
    site = Crowded(tmp_path_factory.mktemp("crowded"))
    yield site
    site.daemon.stop()
    site.raw.stop()


@pytest.fixture
def site(made: Crowded) -> Iterator[Crowded]:
    made.raw.reset()
    made.raw.go.clear()
    made.raw.script = waits
    yield made
    made.raw.go.set()


def finish(site: Crowded, *connections: rawclient.Connection) -> None:
    site.raw.go.set()
    for each in connections:
        assert each.read_response().status == 200
        each.close()


def test_one_more_is_refused_until_another_has_ended(site: Crowded) -> None:
    held = [site.begin("two"), site.begin("two")]
    with rawclient.Connection(site.plain) as client:
        refused = client.get("two.test")
        assert (refused.status, refused.all("retry-after")) == (429, [b"1"])
        with H2Client(site.plain) as other:
            stream = other.get("two.test")
            other.read_until(lambda: stream in other.statuses)
            assert other.statuses[stream] == 429
        finish(site, *held)
        assert client.get("two.test").status == 200, "on the same connection"
    [entry, _] = site.daemon.wait_for_access(lambda each: each["outcome"] == "crowded", 2)
    assert (entry["status"], entry["frontend"]) == (429, "two")


def test_other_clients_have_room_of_their_own(site: Crowded) -> None:
    held = [site.begin("two"), site.begin("two"), site.begin("two", client="192.0.2.7")]
    assert site.status("two") == 429
    finish(site, *held)


def test_a_policy_is_one_for_all_who_name_it(site: Crowded) -> None:
    held = site.begin("shared-a")
    assert site.status("shared-b") == 429
    finish(site, held)


@pytest.mark.parametrize(
    ("name", "mine", "other"),
    [("whole", [], None), ("key", ["X-Api-Key: a"], ["X-Api-Key: b"])],
)
def test_by_what_they_are_counted(
    site: Crowded, name: str, mine: list[str], other: list[str] | None
) -> None:
    held = [site.begin(name, *mine)]
    assert site.status(name, *mine) == 429
    if other is not None:
        held.append(site.begin(name, *other))
    finish(site, *held)


def test_who_leaves_makes_room(site: Crowded) -> None:
    held = site.begin("whole")
    assert site.status("whole") == 429
    held.reset()
    processes.wait_until(
        lambda: site.daemon.json("status")["workers"][0]["requests"] == 0, "nobody is in flight"
    )
    finish(site, site.begin("whole"))


def test_a_backend_that_breaks_off_makes_room(site: Crowded) -> None:
    site.raw.script = lambda exchange: exchange.reset()
    for _ in range(5):
        assert site.status("whole") == 502


def test_what_is_only_tried_refuses_nobody(site: Crowded) -> None:
    finish(site, *[site.begin("tried") for _ in range(3)])


def test_explain_tells_it(site: Crowded) -> None:
    port = site.plain.rpartition(":")[2]
    [stage] = site.daemon.json("explain", f"http://shared-a.test:{port}/")["stages"]
    assert stage["words"] == ("1 requests in flight, for each client address; more get 429")
    assert (stage["key"], stage["by"]["name"]) == ("concurrency", "shared")
