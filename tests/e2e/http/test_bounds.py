"""How large a request may be and how long it may take, as frontends and policies say.

A backend that is late is late by `LATE_S`; what is short is much shorter, and what is long much
longer, so that no measurement decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, websocket, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.site import Site

LATE_S = 1.2
SHORT, LONG = "200ms", "30s"
HURRY = {
    "timeouts": {
        "request_body": SHORT,
        "response_body": SHORT,
        "response_head": SHORT,
        "tunnel": SHORT,
    }
}
FRONTENDS: dict[str, dict[str, Any]] = {
    "ten": {"limits": {"body_bytes": "10B"}},
    "six": {"limits": {"body_bytes": "10B"}, "policies": ["six"]},
    "wide": {"limits": {"body_bytes": "1MiB"}},
    "hurried": HURRY,
    "by-policy": {"policies": ["hurry"]},
    "patient": {"cluster": "hurried", "timeouts": {"response_head": LONG, "response_body": LONG}},
    "null": {"policies": ["hurry"], "timeouts": {"response_head": None}},
    "own": {"policies": ["hurry"], "timeouts": {"response_head": LONG}},
    "beyond": {},
}
Ask = Callable[[str, bytes], int]


class BoundedSite(Site):
    """A patient cluster and a hurried one, and the same backend behind both."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, ("red",))
        self.raw = RawBackend()
        self.limited = ports.address()
        self.far = ports.address()
        document = self.document({"raw": [self.raw.address]}, {})
        document["clusters"]["hurried"] = {
            "backends": {"raw": {"address": self.raw.address}},
            "timeouts": {"response_head": SHORT, "response_body": SHORT},
        }
        document["listeners"]["main"]["h2c"] = True
        document["listeners"]["limited"] = {
            "address": self.limited,
            "h2c": True,
            "limits": {"body_bytes": "8B"},
        }
        document["listeners"]["far"] = {"address": self.far, "policies": ["six", "hurry"]}
        document["policies"] = {"six": {"limits": {"body_bytes": "6B"}}, "hurry": HURRY}
        document["frontends"] = {
            name: {
                "listeners": ["far", "limited", "main"],
                "hostname": f"{name}.test",
                "cluster": "raw",
            }
            | keys
            for name, keys in FRONTENDS.items()
        }
        self.contents: dict[str, Any] = {"kakehi.yaml": document}
        self.start(self.contents)

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoundedSite]:
    with BoundedSite(tmp_path_factory.mktemp("bounds")) as made:
        yield made


@pytest.fixture(autouse=True)
def _usual(site: BoundedSite) -> None:
    site.raw.reset()


def status_h1(address: str, name: str, body: bytes, *, chunked: bool = False) -> int:
    with rawclient.Connection(address) as client:
        if not chunked:
            return client.post(f"{name}.test", body).status
        head = f"POST / HTTP/1.1\r\nHost: {name}.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        return client.read_response().status


def status_h2(address: str, name: str, body: bytes) -> int:
    with H2Client(address) as client:
        stream = client.post(f"{name}.test", body)
        client.read_until(lambda: stream in client.statuses)
        return client.statuses[stream]


@pytest.mark.parametrize(
    ("at", "name", "most"),
    [
        ("main", "ten", 10),
        ("main", "six", 6),
        ("limited", "ten", 8),
        ("limited", "six", 6),
        ("limited", "wide", 8),
        ("far", "wide", 6),
        ("main", "wide", 1 << 20),
    ],
)
def test_of_all_limits_the_smallest_counts(
    site: BoundedSite, at: str, name: str, most: int
) -> None:
    address = {"main": site.address, "limited": site.limited, "far": site.far}[at]
    assert status_h1(address, name, b"x" * most) == 200
    assert status_h1(address, name, b"x" * (most + 1)) == 413
    assert status_h1(address, name, b"x" * most, chunked=True) == 200
    assert status_h1(address, name, b"x" * (most + 1), chunked=True) == 413
    if at != "far":
        assert status_h2(address, name, b"x" * most) == 200
        assert status_h2(address, name, b"x" * (most + 1)) == 413


def late(exchange: Exchange) -> None:
    exchange.read_body()
    time.sleep(LATE_S)
    exchange.send(wire.response(b"late"))


@pytest.mark.parametrize(
    ("name", "status"),
    [("hurried", 504), ("by-policy", 504), ("patient", 200), ("null", 200), ("own", 200)],
)
def test_a_response_head_that_is_late(site: BoundedSite, name: str, status: int) -> None:
    site.raw.script = late
    with rawclient.Connection(site.address) as client, H2Client(site.address) as other:
        stream = other.get(f"{name}.test")
        assert client.get(f"{name}.test").status == status
        other.read_until(lambda: stream in other.statuses)
        assert other.statuses[stream] == status


def test_a_listeners_policy_counts_where_the_frontend_says_nothing(site: BoundedSite) -> None:
    site.raw.script = late
    with rawclient.Connection(site.far) as client:
        assert client.get("beyond.test").status == 504
    with rawclient.Connection(site.far) as client:
        assert client.get("own.test").status == 200
    with rawclient.Connection(site.address) as client:
        assert client.get("beyond.test").status == 200


@pytest.mark.parametrize(("name", "whole"), [("by-policy", False), ("patient", True)])
def test_a_response_body_that_pauses(site: BoundedSite, name: str, whole: bool) -> None:
    def pausing(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        time.sleep(LATE_S)
        exchange.send(b"half")

    site.raw.script = pausing
    with rawclient.Connection(site.address) as client:
        if whole:
            assert client.get(f"{name}.test").body == b"halfhalf"
        else:
            with pytest.raises(rawclient.Truncated):
                client.get(f"{name}.test")


@pytest.mark.parametrize(("name", "status"), [("hurried", 408), ("own", 408), ("beyond", 200)])
def test_a_request_body_that_pauses(site: BoundedSite, name: str, status: int) -> None:
    with rawclient.Connection(site.address) as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {name}.test\r\nContent-Length: 2\r\n\r\na".encode())
        time.sleep(LATE_S)  # the pause is what is tested
        client.send_tolerating_close(b"b")
        assert client.read_response().status == status


@pytest.mark.parametrize(("name", "lives"), [("hurried", False), ("beyond", True)])
def test_a_tunnel_that_is_silent(site: BoundedSite, name: str, lives: bool) -> None:
    site.raw.script = websocket.serve_echo
    with rawclient.Connection(site.address) as connection:
        client = websocket.Client(connection, f"{name}.test")
        client.echo(b"here")
        time.sleep(LATE_S)  # the silence is what is tested
        if lives:
            client.echo(b"still")
        else:
            connection.expect_closed()


def test_explain_tells_the_bounds_and_whose_they_are(site: BoundedSite) -> None:
    port = site.address.rpartition(":")[2]
    told = site.daemon.json("explain", f"http://six.test:{port}/")["stages"]
    assert [(each["key"], each["words"], each["by"]["name"]) for each in told] == [
        ("limits", "a body of more than 6B gets 413", "six")
    ]
    told = site.daemon.json("explain", f"http://null.test:{port}/")["stages"]
    assert {each["words"] for each in told} == {
        "request_body within 200ms",
        "response_body within 200ms",
        "tunnel within 200ms",
        'response_head is switched off, whatever policy "hurry" says',
    }


def test_a_change_counts_from_the_next_request_on(site: BoundedSite) -> None:
    site.raw.script = late
    with rawclient.Connection(site.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: own.test\r\n\r\n")
        site.raw.wait_for_requests(1)
        own = site.contents["kakehi.yaml"]["frontends"]["own"]
        own["timeouts"] = {"response_head": SHORT}
        site.commit(site.contents)
        assert client.read_response().status == 200
        assert client.get("own.test").status == 504
