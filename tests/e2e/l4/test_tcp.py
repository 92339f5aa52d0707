"""Listeners with `protocol: tcp`: bytes go to backends as they come, and commits move nobody."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import metrics, ports, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.lines import LineClient, LineServer, is_turned_away
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo

DENIED = "10.9.9.9"


class TcpSite:
    """A daemon with one listener of that kind."""

    def __init__(self, directory: Path) -> None:
        self.address, self.admin, self.told = (ports.address() for _ in range(3))
        self.daemon = Kakehi(Repo(directory / "repository"))

    def document(
        self, backends: dict[str, Any], *, cluster: dict[str, Any] | None = None, **listener: Any
    ) -> dict[str, Any]:
        each = {name: {"address": at} for name, at in backends.items()}
        return {
            "settings": {"access_log": str(self.daemon.access_log), "admin": self.admin},
            "listeners": {"lines": {"address": self.address, "protocol": "tcp", **listener}},
            "clusters": {"lines": {"backends": each, **(cluster or {})}},
            "frontends": {"lines": {"listeners": ["lines"], "cluster": "lines"}},
        }

    def begin(self, backends: dict[str, Any], **more: Any) -> None:
        self.daemon.begin({"kakehi.yaml": self.document(backends, **more)})

    def commit(self, document: dict[str, Any]) -> None:
        self.daemon.commit({"kakehi.yaml": document})

    def connect(self, before: bytes = b"") -> LineClient:
        return LineClient(self.address, before)

    def logged(self, outcome: str, count: int = 1) -> dict[str, Any]:
        return self.daemon.wait_for_access(lambda entry: entry["outcome"] == outcome, count)[-1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpSite]:
    made = TcpSite(tmp_path_factory.mktemp("tcp"))
    yield made
    if made.daemon.process is not None:
        made.daemon.stop()


@pytest.fixture
def one() -> Iterator[LineServer]:
    with LineServer("one") as made:
        yield made


@pytest.fixture
def two() -> Iterator[LineServer]:
    with LineServer("two") as made:
        yield made


def test_the_server_may_speak_first_and_either_side_end_first(
    site: TcpSite, one: LineServer
) -> None:
    site.begin({"one": one.address})
    with site.connect() as client:
        assert client.hear() == "one ready"
        assert client.say("hello") == "one heard hello"
        assert client.end() == ["goodbye"]
    entry = site.logged("tunnel_closed")
    assert (entry["protocol"], entry["frontend"], entry["backend"]) == ("TCP", "lines", "lines/one")
    assert entry["bytes_in"] == len("hello\n")
    assert entry["bytes_out"] == len("one ready\none heard hello\ngoodbye\n")


def test_what_looks_like_http_is_not_touched(site: TcpSite) -> None:
    head = b"GET http://a/../b HTTP/1.1\r\nHost : x\r\nX_Y: 1\n\r\n"
    with RawBackend() as backend:
        raw = ports.at_address(ports.address())
        raw.listen(8)
        site.begin({"raw": ports.of(raw), "never": backend.address})
        site.commit(site.document({"raw": ports.of(raw)}))
        with site.connect(head) as client:
            peer, _ = raw.accept()
            peer.settimeout(10)
            got = b""
            while len(got) < len(head):
                got += peer.recv(4096)
            assert got == head
            peer.sendall(b"\0\xff not a response")
            assert client.socket.recv(100) == b"\0\xff not a response"
            peer.close()
        raw.close()


def test_many_bytes_pass_both_ways_at_once(site: TcpSite) -> None:
    listening = ports.listening()
    site.begin({"echo": ports.of(listening)})
    payload = os.urandom(8 << 20)

    def echo() -> None:
        peer, _ = listening.accept()
        with peer:
            while data := peer.recv(1 << 16):
                peer.sendall(data)

    serving = threading.Thread(target=echo)
    serving.start()
    with site.connect() as client:
        saying = threading.Thread(
            target=lambda: (client.socket.sendall(payload), client.socket.shutdown(socket.SHUT_WR))
        )
        saying.start()
        got = bytearray()
        while data := client.socket.recv(1 << 16):
            got += data
        saying.join()
    serving.join()
    listening.close()
    assert bytes(got) == payload


def test_a_commit_moves_newcomers_alone(site: TcpSite, one: LineServer, two: LineServer) -> None:
    site.begin({"one": one.address})
    with site.connect() as before:
        assert before.hear() == "one ready"
        site.commit(site.document({"two": two.address}))
        with site.connect() as behind:
            assert behind.hear() == "two ready"
            assert before.say("still there?") == "one heard still there?"
        site.daemon.revert()
        with site.connect() as again:
            assert again.hear() == "one ready"
        assert before.say("and now?") == "one heard and now?"


def test_another_backend_is_tried_and_nobody_is_told_anything(
    site: TcpSite, one: LineServer
) -> None:
    gone = ports.address()
    site.begin({"gone": gone, "one": one.address}, cluster={"retries": 1})
    for _ in range(4):
        with site.connect() as client:
            assert client.hear() == "one ready"
    site.commit(site.document({"gone": gone}))
    assert is_turned_away(site.address)
    assert site.logged("connect_failed")["backend"] == "lines/gone"


def test_who_may_connect_is_asked_first(site: TcpSite, one: LineServer, two: LineServer) -> None:
    document = site.document({"one": one.address}, proxy_protocol=["127.0.0.0/8"])
    document["clusters"]["near"] = {"backends": {"two": {"address": two.address}}}
    document["frontends"]["near"] = {
        "listeners": ["lines"],
        "cluster": "near",
        "client_addresses": ["10.0.0.0/8"],
        "deny": [DENIED],
    }
    site.daemon.begin({"kakehi.yaml": document})

    def told(client: str) -> bytes:
        return f"PROXY TCP4 {client} 192.0.2.1 40000 5432\r\n".encode()

    for client, name in (("192.0.2.9", "one"), ("10.1.1.1", "two")):
        with site.connect(told(client)) as connection:
            assert connection.hear() == f"{name} ready"
    assert is_turned_away(site.address, told(DENIED))
    entry = site.logged("address_denied")
    assert (entry["client"].rpartition(":")[0], entry["frontend"]) == (DENIED, "near")
    document["frontends"].pop("lines")
    site.commit(document)
    assert is_turned_away(site.address, told("192.0.2.9"))
    assert site.logged("no_frontend")["frontend"] is None
    explained = site.daemon.json("explain", f"tcp://{site.address}", "--client-address", "10.1.1.1")
    assert explained["frontend"]["name"] == "near"
    assert "bytes pass unread; near/two serves it" in explained["message"]


def test_a_silent_connection_ends(site: TcpSite, one: LineServer) -> None:
    site.begin({"one": one.address}, cluster={"timeouts": {"tunnel": "300ms"}})
    began = time.monotonic()
    with site.connect() as client:
        assert client.hear() == "one ready"
        assert client.is_ended()
    assert time.monotonic() - began < 5


def test_a_full_listener_closes_at_once(site: TcpSite, one: LineServer) -> None:
    site.begin({"one": one.address}, limits={"connections": 2})
    with site.connect() as first, site.connect() as second:
        assert [client.hear() for client in (first, second)] == ["one ready"] * 2
        assert is_turned_away(site.address)
        assert first.say("here") == "one heard here"
    metrics.wait_for(site.admin, lambda now: now["kakehi_worker_connections"] == 0)
    with site.connect() as again:
        assert again.hear() == "one ready"


def test_a_listener_changes_what_it_speaks(site: TcpSite, one: LineServer) -> None:
    site.begin({"one": one.address})
    with site.connect() as lines, RawBackend() as backend:
        assert lines.hear() == "one ready"
        document = site.document({"one": backend.address}, protocol="http")
        site.commit(document)
        with rawclient.Connection(site.address) as kept:
            assert kept.get("any.test").status == 200
            assert lines.say("mine is as it was") == "one heard mine is as it was"
            site.commit(site.document({"one": one.address}))
            with site.connect() as newcomer:
                assert newcomer.hear() == "one ready"
            # It was waiting for a request, which would not be one any more.
            kept.expect_closed()
        assert lines.say("and still") == "one heard and still"


def test_sessions_are_counted_and_nothing_is_lost(site: TcpSite, one: LineServer) -> None:
    site.begin({"one": one.address})
    before = metrics.wait_for(site.admin, lambda now: now["kakehi_worker_requests"] == 0)
    for _ in range(5):
        with site.connect() as client:
            assert client.hear() == "one ready"
            assert client.end() == ["goodbye"]
    after = metrics.wait_for(site.admin, lambda now: now["kakehi_worker_requests"] == 0)
    grown = {name: after[name] - value for name, value in before.items()}
    assert grown["kakehi_passthroughs_total"] == grown["kakehi_requests_served_total"] == 5
    assert grown["kakehi_requests_total"] == grown["kakehi_requests_cut_total"] == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frontend": {"hostname": "a.test"}}, "passes bytes on, which name none"),
        ({"frontend": {"path": {"prefix": "/x"}}}, "so that nothing is known of it"),
        ({"frontend": {"concurrency": {"requests": 3}}}, "where this does not work yet"),
        ({"frontend": {"timeouts": {"request": "3s"}}}, 'timeouts.request: listener "lines"'),
        ({"cluster": {"protocol": "h2"}}, 'cluster "lines" (kakehi.yaml:'),
        ({"cluster": {"tls": {}}}, 'lead it to a cluster without "tls"'),
        ({"policy": {"hsts": {"max_age_days": 9}}}, "says hsts, and of bytes that pass unread"),
        ({"listener": {"h2c": True}}, "h2c: behind protocol tcp nothing is known of HTTP"),
    ],
)
def test_what_is_known_of_requests_alone_is_refused(
    tmp_path: Path, change: dict[str, dict[str, Any]], says: str
) -> None:
    document: dict[str, dict[str, dict[str, Any]]] = {
        "listeners": {"lines": {"address": "127.0.0.1:5432", "protocol": "tcp"}},
        "clusters": {"lines": {"backends": {"one": {"address": "127.0.0.1:5433"}}}},
        "frontends": {"lines": {"listeners": ["lines"], "cluster": "lines"}},
    }
    if "policy" in change:
        document["policies"] = {"secure": change.pop("policy")}
        change["listener"] = {"policies": ["secure"]}
    for kind, more in change.items():
        document[f"{kind}s"]["lines"] |= more
    repo = Repo(tmp_path)
    repo.commit({"kakehi.yaml": document})
    done = Kakehi(repo).run_cli("validate", str(tmp_path))
    assert done.returncode == 3
    assert says in done.stderr + done.stdout
    assert "kakehi.yaml:" in done.stderr + done.stdout
