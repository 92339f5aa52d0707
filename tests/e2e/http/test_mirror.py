"""A mirror gets what the backend gets, over either version, and no client waits for it."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ports, processes, rawclient, wire
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.site import Site

BODY = bytes(range(256)) * 1024


class Mirrored(Site):
    """A site whose host is mirrored to a backend of HTTP/1.1, and another one to one of HTTP/2."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, [])
        self.bodies: list[bytes] = []
        self.is_slow = threading.Event()
        self.behind = RawBackend(self._serve)
        self.shadow = RawBackend(self._shadow)
        self.multiplexed = H2Backend(self._stream)
        self.h2c, self.admin = ports.address(), ports.address()
        document: Any = {
            "settings": {"admin": self.admin},
            "listeners": {
                "main": {"address": self.address},
                "h2c": {"address": self.h2c, "h2c": True},
            },
            "clusters": {
                "main": {"backends": {"b": {"address": self.behind.address}}},
                "shadow": {"backends": {"b": {"address": self.shadow.address}}},
                "streams": {
                    "protocol": "h2",
                    "backends": {"b": {"address": self.multiplexed.address}},
                },
            },
            "frontends": {
                "one": self._frontend("one.test", {"cluster": "shadow"}),
                "two": self._frontend("two.test", {"cluster": "streams", "share": "100%"}),
                "both": self._frontend(
                    "both.test", [{"cluster": "shadow"}, {"cluster": "streams"}]
                ),
            },
        }
        self.start({"kakehi.yaml": document})

    @staticmethod
    def _frontend(host: str, mirror: object) -> dict[str, Any]:
        return {
            "hostname": host,
            "listeners": ["h2c", "main"],
            "cluster": "main",
            "mirror": mirror,
        }

    def _serve(self, exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(wire.response(b"behind"))

    def _shadow(self, exchange: Exchange) -> None:
        if self.is_slow.is_set():
            exchange.wait_for_end()
            return
        self.bodies.append(exchange.read_body())
        exchange.send(wire.response(b"shadow", status=500))

    def _stream(self, request: Request) -> None:
        self.bodies.append(request.read())
        request.head(200, ends=True)

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.behind.stop()
        self.shadow.stop()
        self.multiplexed.stop()

    def counted(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=15) as response:
            text = response.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"kakehi_{name}"
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    with Mirrored(tmp_path_factory.mktemp("mirror")) as made:
        yield made


@pytest.mark.parametrize("host", ["one.test", "two.test"])
@pytest.mark.parametrize("over", ["http", "h2c"])
def test_bodies_reach_both_and_one_answers(site: Mirrored, host: str, over: str) -> None:
    site.bodies.clear()
    before = site.counted("mirrors_total")
    count = 3
    if over == "http":
        with rawclient.Connection(site.address) as client:
            for _ in range(count):
                assert client.post(host, BODY).body == b"behind"
    else:
        with H2Client(site.h2c) as client:
            streams = [client.post(host, BODY) for _ in range(count)]
            client.read_until(lambda: client.ended >= set(streams))
            assert [client.bodies[stream] for stream in streams] == [b"behind"] * count
    processes.wait_until(lambda: len(site.bodies) == count, "the mirror has them", 15)
    assert site.bodies == [BODY] * count
    processes.wait_until(
        lambda: site.counted("mirrors_total") == before + count, "they are counted", 15
    )


@pytest.mark.parametrize("over", ["http", "h2c"])
def test_each_of_several_mirrors_gets_all_of_it(site: Mirrored, over: str) -> None:
    """In the form that each speaks, whichever the backend does."""
    site.bodies.clear()
    before = site.counted("mirrors_total")
    if over == "http":
        with rawclient.Connection(site.address) as client:
            assert client.post("both.test", BODY).body == b"behind"
            assert client.get("both.test").body == b"behind"
    else:
        with H2Client(site.h2c) as client:
            streams = [client.post("both.test", BODY), client.get("both.test")]
            client.read_until(lambda: client.ended >= set(streams))
            assert [client.bodies[stream] for stream in streams] == [b"behind"] * 2
    processes.wait_until(lambda: len(site.bodies) == 4, "both have both", 15)
    assert sorted(site.bodies) == sorted([BODY, BODY, b"", b""])
    processes.wait_until(lambda: site.counted("mirrors_total") == before + 4, "each is counted", 15)


def test_of_two_mirrors_one_that_hangs_costs_the_other_nothing(site: Mirrored) -> None:
    site.is_slow.set()
    site.bodies.clear()
    # What a mirror is slower with may wait up to 1 MiB.
    large = BODY * 3
    with rawclient.Connection(site.address) as client:
        assert client.post("both.test", large).body == b"behind"
    processes.wait_until(lambda: site.bodies == [large], "the other one has it whole", 15)
    site.is_slow.clear()


def test_a_mirror_that_hangs_costs_nobody_anything(site: Mirrored) -> None:
    site.is_slow.set()
    site.behind.reset()
    dropped = site.counted("mirrors_dropped_total")
    large = BODY * 64
    try:
        with rawclient.Connection(site.address) as client:
            began = time.monotonic()
            assert client.post("one.test", large).body == b"behind"
            for _ in range(300):
                assert client.get("one.test").body == b"behind"
            assert time.monotonic() - began < 10
        # Some are never begun, since those before hang; the large body was given up on its way.
        processes.wait_until(
            lambda: site.counted("mirrors_dropped_total") > dropped + 40, "they are counted", 15
        )
    finally:
        site.is_slow.clear()
    assert len(site.behind.requests) == 301


def test_explain_tells_of_it(site: Mirrored) -> None:
    port = site.address.rpartition(":")[2]
    told = site.daemon.run_cli("explain", f"http://one.test:{port}/", "--json", check=True)
    stages = json.loads(told.stdout)["stages"]
    words = "it goes to cluster shadow as well, whose answer is thrown away"
    assert [(each["key"], each["words"], each["by"]) for each in stages] == [
        ("mirror", words, None)
    ]
