"""WebSockets over HTTP/2 (RFC 8441): to the backend they are HTTP/1.1 upgrades like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.tls.shop import Shop
from tests.harness import ports, processes, websocket
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as made:
        yield made


@pytest.fixture
def clear(shop: Shop) -> str:
    """Started, with a listener in clear text that takes HTTP/2."""
    address = ports.address()
    files = shop.files()
    document = files["kakehi.yaml"]
    document["listeners"] = {"clear": {"address": address, "h2c": True}}
    document["frontends"]["all"]["listeners"] = ["clear"]
    shop.repo.commit(files)
    shop.daemon.start()
    return address


def test_messages_pass_both_ways_beside_other_streams(shop: Shop, clear: str) -> None:
    shop.backend.script = websocket.serve_echo
    with H2Client(clear) as client:
        streams = [client.websocket("shop.test", f"/{number}") for number in range(3)]
        assert [client.statuses[stream] for stream in streams] == [200] * 3
        for stream in streams:
            message = websocket.frame(f"hello {stream}".encode(), websocket.TEXT, masked=True)
            client.send(stream, message)
        echoes = {
            stream: websocket.frame(f"hello {stream}".encode(), websocket.TEXT)
            for stream in streams
        }
        client.read_until(lambda: client.bodies == echoes)
        for stream in streams:
            client.send(stream, websocket.frame(b"", websocket.CLOSE, masked=True))
        client.read_until(lambda: client.ended >= set(streams))
    assert {request.path for request in shop.backend.requests} == {"/0", "/1", "/2"}


def test_a_client_that_leaves_behind_two_closed_halves_is_let_go(shop: Shop, clear: str) -> None:
    """Both halves are over, but the backend has not read all of the client's: the stream is gone
    from the connection, and what waits for the backend must go when the connection goes."""

    def script(exchange: Exchange) -> None:
        exchange.send(websocket.switching(exchange.request))
        exchange.half_close()
        exchange.wait_for_go()
        while exchange.connection.fill():
            pass

    shop.backend.script = script
    workers = shop.daemon.worker_pids()
    with H2Client(clear) as client:
        stream = client.websocket("shop.test")
        client.read_until(lambda: stream in client.ended)
        # Until every buffer on the way is full.
        while client.send(stream, bytes(16_000)) or client.read(0.5):
            pass
        client.end(stream)
    processes.wait_until(
        lambda: all(each["connections"] == 0 for each in shop.daemon.json("status")["workers"]),
        "the client's connection is gone",
    )
    shop.backend.go.set()
    shop.backend.wait_until(
        lambda: all(each.ended for each in shop.backend.connections), "the backend's is gone, too"
    )
    with H2Client(clear) as client:
        shop.backend.script = websocket.serve_echo
        assert client.statuses[client.websocket("shop.test")] == 200
    assert shop.daemon.worker_pids() == workers


def test_a_frontend_that_names_no_protocol_refuses_the_stream(shop: Shop) -> None:
    """A handshake in a stream has no other reading, so that it is not an ordinary request."""
    address = ports.address()
    files = shop.files()
    document = files["kakehi.yaml"]
    document["listeners"] = {"clear": {"address": address, "h2c": True}}
    document["frontends"]["all"] |= {"listeners": ["clear"], "upgrades": []}
    shop.repo.commit(files)
    shop.daemon.start()
    with H2Client(address) as client:
        stream = client.websocket("shop.test")
        assert client.statuses[stream] == 501
    assert shop.backend.requests == []
    [entry] = shop.daemon.wait_for_access(lambda each: each["status"] == 501)
    assert entry["outcome"] == "upgrade_refused"
