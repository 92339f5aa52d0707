"""A cluster that moves to another protocol while bodies are on their way: each ends as it began."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

PART = bytes(range(256)) * 64
PARTS = 12
HEAD = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"


class Moving:
    """One worker, and backends of either protocol that say what they got and are told when."""

    def __init__(self, directory: Path) -> None:
        self.text, self.frames = RawBackend(self._exchange), H2Backend(self._stream)
        self.address = ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        self.daemon.repo.commit({"kakehi.yaml": self.document("http")})
        self.daemon.start()

    def document(self, protocol: str) -> dict[str, Any]:
        backend = self.text if protocol == "http" else self.frames
        return {
            "settings": {"access_log": str(self.daemon.access_log)},
            "listeners": {"main": {"address": self.address, "h2c": True}},
            "clusters": {
                "moving": {"protocol": protocol, "backends": {"b": {"address": backend.address}}}
            },
            "frontends": {"all": {"listeners": ["main"], "cluster": "moving"}},
        }

    def move(self, protocol: str) -> None:
        self.daemon.commit({"kakehi.yaml": self.document(protocol)})

    def seen(self) -> int:
        """How many requests have come to either."""
        return len(self.text.requests) + len(self.frames.seen)

    def stop(self) -> None:
        self.daemon.stop()
        self.text.stop()
        self.frames.stop()

    @staticmethod
    def _exchange(exchange: Exchange) -> None:
        body = exchange.read_body()
        told = [("X-By", "http"), ("X-Trailer", str(dict(exchange.request.trailers)))]
        exchange.send(wire.response(body, fields=told, framing="chunked"))

    @staticmethod
    def _stream(request: Request) -> None:
        body = request.read()
        request.answer(body, 200, ("x-by", "h2"), ("x-trailer", str(dict(request.trailers))))


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moving]:
    made = Moving(tmp_path_factory.mktemp("moving"))
    yield made
    # Nothing was tried again at the other protocol.
    count = made.seen()
    entries = made.daemon.wait_for_access(lambda each: each["outcome"] == "ok", count)
    assert [each["retries"] for each in entries] == [0] * count
    assert len(made.daemon.access_entries()) == count
    made.stop()


@pytest.mark.parametrize("to", ["h2", "http"])
def test_a_chunked_body_ends_where_it_began(moving: Moving, to: str) -> None:
    before = "http" if to == "h2" else "h2"
    moving.move(before)
    with Connection(moving.address) as client:
        begun = moving.seen()
        client.send(HEAD)
        for number in range(PARTS):
            client.send(b"%x\r\n%s\r\n" % (len(PART), PART))
            if number == PARTS // 2:
                moving.text.wait_until(lambda: moving.seen() > begun, "the request has come")
                # In the midst of a chunk.
                client.send(b"4000\r\n" + PART[:100])
                moving.move(to)
                client.send(PART[100:] + b"\r\n")
        client.send(b"0\r\nX-Sum: 1\r\n\r\n")
        response = client.read_response("POST")
        assert (response.status, response.get("x-by")) == (200, before.encode())
        assert response.body == PART * (PARTS + 1)
        assert b"x-sum" in (response.get("x-trailer") or b"").lower()
        # The connection goes on, and the next one is asked by the other protocol.
        client.send(HEAD + wire.chunked(b"next", 2))
        response = client.read_response("POST")
        assert (response.get("x-by"), response.body) == (to.encode(), b"next")


@pytest.mark.parametrize("to", ["h2", "http"])
def test_so_does_one_without_a_length_over_http2(moving: Moving, to: str) -> None:
    before = "http" if to == "h2" else "h2"
    moving.move(before)
    with H2Client(moving.address) as client:
        begun = moving.seen()
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")]
        client.h2.send_headers(stream, head)
        client.flush()
        for number in range(PARTS):
            body = PART
            while body:
                body = body[client.send(stream, body) :]
                if body:
                    client.read(1.0)
            if number == PARTS // 2:
                moving.text.wait_until(lambda: moving.seen() > begun, "the request has come")
                moving.move(to)
        client.end(stream)
        client.read_until(lambda: stream in client.ended)
        assert (client.statuses[stream], client.heads[stream]["x-by"]) == (200, before)
        assert client.bodies[stream] == PART * PARTS
        after = client.post("a.test", b"next")
        client.read_until(lambda: after in client.ended)
        assert (client.heads[after]["x-by"], client.bodies[after]) == (to, b"next")
