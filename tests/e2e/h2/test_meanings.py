"""Requests over HTTP/2 that mean what HTTP/1.1 says in another way, and answers of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ports
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo


class Mixed:
    """HTTP/2 in clear text in front of a backend that speaks HTTP/1.1."""

    def __init__(self, directory: Path) -> None:
        self.address, self.backend = ports.address(), RawBackend()
        self.daemon = Kakehi(Repo(directory / "repository"), workers=1)

    def begin(self) -> None:
        """With a backend that has seen nothing, and by a commit where the daemon runs."""
        self.backend.stop()
        self.backend = RawBackend()
        self.daemon.begin(
            {
                "kakehi.yaml": {
                    "settings": {"access_log": str(self.daemon.access_log)},
                    "listeners": {"front": {"address": self.address, "h2c": True}},
                    "clusters": {
                        "shop": {"backends": {"raw": {"address": self.backend.address}}},
                        "empty": {"backends": {}},
                    },
                    "frontends": {
                        "all": {"listeners": ["front"], "cluster": "shop"},
                        "empty": {
                            "listeners": ["front"],
                            "hostname": "empty.test",
                            "cluster": "empty",
                        },
                        "plain": {
                            "listeners": ["front"],
                            "hostname": "plain.test",
                            "cluster": "shop",
                            "upgrades": [],
                        },
                    },
                }
            }
        )

    def ask(self, *fields: tuple[str, str], ends: bool = True, **pseudo: str) -> dict[str, str]:
        """The head of the answer to one request."""
        given = {"method": "GET", "scheme": "http", "path": "/", "authority": "shop.test", **pseudo}
        head = [(f":{name}", value) for name, value in given.items()]
        with H2Client(self.address) as client:
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream, [*head, *fields], end_stream=ends)
            client.flush()
            client.read_until(lambda: stream in client.statuses)
            self.body = client.bodies.get(stream, b"")
            return client.heads[stream]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    made = Mixed(tmp_path_factory.mktemp("mixed"))
    yield made
    made.daemon.stop()
    made.backend.stop()


@pytest.fixture
def mixed(shared: Mixed) -> Mixed:
    """The daemon of all tests here."""
    shared.begin()
    return shared


def test_what_ends_with_its_head_has_a_length_of_none(mixed: Mixed) -> None:
    """Many a server of HTTP/1.1 answers 411 to a POST without one."""
    told = {}
    for method in ("POST", "PUT", "PATCH", "GET", "DELETE", "OPTIONS"):
        assert mixed.ask(method=method)[":status"] == "200"
        told[method] = mixed.backend.last.all("content-length")
    assert told == {
        **{method: [b"0"] for method in ("POST", "PUT", "PATCH")},
        **{method: [] for method in ("GET", "DELETE", "OPTIONS")},
    }
    mixed.backend.settle()
    assert not [each for each in mixed.backend.requests if each.all("transfer-encoding")]


def test_paths_and_queries_follow_the_same_rule(mixed: Mixed) -> None:
    assert mixed.ask(path="/a|b/../{c}?d=^&e=`")[":status"] == "200"
    assert mixed.backend.last.target == b"/%7Bc%7D?d=%5E&e=%60"


def test_aliases_are_dropped_and_other_underscores_are_not(mixed: Mixed) -> None:
    mixed.ask(("x_mine", "1"), ("x_forwarded_for", "203.0.113.7"), ("x_real_ip", "203.0.113.7"))
    request = mixed.backend.last
    assert request.get("x_mine") == b"1"
    assert [name for name in request.names() if "_" in name] == ["x_mine"]


def test_a_refused_target_is_in_the_log(mixed: Mixed) -> None:
    assert mixed.ask(path="/refused/%00")[":status"] == "400"
    [entry] = mixed.daemon.wait_for_access(lambda entry: entry["status"] == 400)
    told = [entry[key] for key in ("method", "host", "path", "protocol", "outcome")]
    assert told == ["GET", "shop.test", "/refused/%00", "HTTP/2.0", "invalid_path"]


def test_a_call_of_grpc_gets_a_status_of_its_own(mixed: Mixed) -> None:
    grpc = (("content-type", "application/grpc"), ("te", "trailers"))
    head = mixed.ask(*grpc, authority="empty.test", method="POST")
    assert (head[":status"], head["grpc-status"]) == ("503", "14")
    assert head["grpc-message"] and head["content-type"] == "application/grpc"
    assert mixed.body == b""
    # Nor is a head that is no request, as far as it could be read.
    head = mixed.ask(*grpc, path="/refused/%00", method="POST")
    assert (head[":status"], head["grpc-status"], mixed.body) == ("400", "13", b"")


@pytest.mark.parametrize(("host", "status"), [("shop.test", "426"), ("plain.test", "501")])
def test_another_version_of_websocket(mixed: Mixed, host: str, status: str) -> None:
    head = mixed.ask(
        ("sec-websocket-version", "12"),
        ends=False,
        method="CONNECT",
        protocol="websocket",
        authority=host,
    )
    assert head[":status"] == status
    if status == "426":
        assert head["sec-websocket-version"] == "13"
    assert not {"upgrade", "connection"} & set(head)
    assert mixed.backend.connections == []


def test_a_bad_chunk_in_the_packet_of_the_head_is_a_502(mixed: Mixed) -> None:
    mixed.backend.script = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n"
    )
    assert mixed.ask()[":status"] == "502"
