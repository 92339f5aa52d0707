"""What is edited in answers is edited in their interim heads and trailers, over both versions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

EARLY = [
    ("link", "</a>"),
    ("set-cookie", "early=1; Path=/"),
    ("x-secret", "1"),
    ("x-s", "theirs"),
    ("x-error", "theirs"),
    ("access-control-allow-origin", "*"),
]
TRAILERS = [
    ("x-secret", "t"),
    ("x-kept", "t"),
    ("x-s", "t"),
    ("x-error", "t"),
    ("grpc-status", "0"),
]
PLAIN: dict[str, Any] = {}
EDITED: dict[str, Any] = {
    "set_cookie": {"*": {"secure": True, "http_only": True}},
    "response_headers": {
        "remove": ["X-Secret"],
        "set": {"X-S": "ours", "X-Error": {"text": "ours", "answers": "success"}},
    },
    "cors": {"origins": ["https://app.test"]},
}
ZIPPED = {**EDITED, "compression": {"encodings": ["gzip"], "types": ["text/*"], "min_bytes": "1B"}}
BODY = b"some body " * 50


class Beside:
    def __init__(self, directory: Path) -> None:
        self.raw, self.streams = RawBackend(self._answer), H2Backend(self._answer_stream)
        self.address = ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        document = {
            "listeners": {"plain": {"address": self.address, "h2c": True}},
            "clusters": {
                "h1": {"backends": {"b": {"address": self.raw.address}}},
                "h2": {"protocol": "h2", "backends": {"b": {"address": self.streams.address}}},
            },
            "frontends": {
                f"{name}-{cluster}": {
                    "listeners": ["plain"],
                    "hostname": f"{name}.{cluster}.test",
                    "cluster": cluster,
                    **says,
                }
                for name, says in (("plain", PLAIN), ("edited", EDITED), ("zipped", ZIPPED))
                for cluster in ("h1", "h2")
            },
        }
        self.daemon.repo.commit({"kakehi.yaml": document})
        self.daemon.start()

    def _answer(self, exchange: Exchange) -> None:
        early = "".join(f"{name}: {value}\r\n" for name, value in EARLY)
        exchange.send(f"HTTP/1.1 103 Early Hints\r\n{early}\r\n".encode())
        status = exchange.request.target.decode().strip("/")
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        trailers = [(name.encode(), value.encode()) for name, value in TRAILERS]
        exchange.send(head.encode() + wire.chunked(BODY, 100, trailers))

    def _answer_stream(self, request: Request) -> None:
        request.head(103, *EARLY)
        request.head(int((request.get(":path") or "").strip("/")), ("content-type", "text/plain"))
        request.send(BODY)
        request.end(*TRAILERS)

    def stop(self) -> None:
        self.daemon.stop()
        self.raw.stop()
        self.streams.stop()

    def ask(self, host: str, version: str, status: int) -> tuple[dict[str, str], dict[str, str]]:
        """The fields of the interim head but ours, and the trailers."""
        early, trailers = self._asked(host, version, status)
        assert re.fullmatch(r"\S+ kakehi-[0-9a-f]{12}", early.pop("via"))
        return early, trailers

    def _asked(self, host: str, version: str, status: int) -> tuple[dict[str, str], dict[str, str]]:
        zips = ("accept-encoding", "gzip")
        if version == "h2":
            with H2Client(self.address) as client:
                stream = client.get(host, zips, path=f"/{status}")
                client.read_until(lambda: stream in client.ended)
                assert client.statuses[stream] == status
                [early] = client.interim[stream]
                return dict(early[1:]), dict(client.trailers[stream])
        with rawclient.Connection(self.address) as connection:
            response = connection.get(host, f"/{status}", ": ".join(zips))
            assert response.status == status
            [interim] = connection.interim

        def texts(fields: wire.Fields) -> dict[str, str]:
            return {name.decode().lower(): value.decode() for name, value in fields}

        return texts(interim.fields), texts(response.trailers)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    made = Beside(tmp_path_factory.mktemp("beside"))
    yield made
    made.stop()


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("cluster", ["h1", "h2"])
def test_nothing_that_is_left_out_of_a_head_stands_beside_it(
    beside: Beside, cluster: str, version: str
) -> None:
    assert beside.ask(f"plain.{cluster}.test", version, 200) == (dict(EARLY), dict(TRAILERS))
    kept = {"x-kept": "t", "grpc-status": "0"}
    early = {"link": "</a>", "set-cookie": "early=1; Path=/; Secure; HttpOnly"}
    for name in ("edited", "zipped"):
        assert beside.ask(f"{name}.{cluster}.test", version, 200) == (early, kept)
    # Of an error what is set for successes alone stays as it is, but nobody knows of that at a 103.
    error = beside.ask(f"edited.{cluster}.test", version, 404)
    assert error == (early, {**kept, "x-error": "t"})
