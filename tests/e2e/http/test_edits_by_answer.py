"""Header edits that are for some answers only, and what our own errors keep whatever is edited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

MONTH = "max-age=2592000, public, immutable"
EDITS: dict[str, Any] = {
    # As `expires 30d` of nginx, whose `add_header` is for no errors either.
    "success": {"set": {"Cache-Control": {"text": MONTH, "answers": "success"}}},
    "plain": {"set": {"Cache-Control": MONTH, "X-Frame-Options": "DENY"}},
    "all": {"set": {"Cache-Control": {"text": MONTH, "answers": "all"}}},
    "several": {"add": {"Set-Cookie": ["a=1; Path=/", "b={scheme}"], "X-From": ["one", "two"]}},
    "removed": {"remove": ["Cache-Control", "X-From"]},
    "made": {
        "set": {
            "X-From": {"text": "{client_address}", "answers": "success"},
            "Expires": "{scheme}",
            "X-Frame-Options": "{frontend}",
        }
    },
}


class Edited:
    """One worker: a frontend for each, at a backend that answers and at one that is down."""

    def __init__(self, directory: Path) -> None:
        self.backend = RawBackend(self._answer)
        self.address = ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        clusters = {"up": self.backend.address, "down": ports.address()}
        document = {
            "settings": {"access_log": str(self.daemon.access_log)},
            "listeners": {"plain": {"address": self.address, "h2c": True}},
            "clusters": {
                name: {"retries": 0, "backends": {"b": {"address": address}}}
                for name, address in clusters.items()
            },
            "frontends": {
                f"{name}-{cluster}": {
                    "listeners": ["plain"],
                    "hostname": f"{name}.{cluster}.test",
                    "cluster": cluster,
                    "response_headers": edits,
                }
                for name, edits in EDITS.items()
                for cluster in clusters
            },
        }
        self.daemon.repo.commit({"kakehi.yaml": document})
        self.daemon.start()

    @staticmethod
    def _answer(exchange: Exchange) -> None:
        exchange.read_body()
        status = exchange.request.target.decode().strip("/")
        theirs = [("Cache-Control", "theirs"), ("X-From", "theirs")]
        exchange.send(wire.response(b"theirs", status=f"{status} X", fields=theirs))

    def stop(self) -> None:
        self.daemon.stop()
        self.backend.stop()

    def ask(self, host: str, status: int, version: str) -> dict[str, str]:
        """What an answer says, over HTTP/1.1 or HTTP/2."""
        names = ("cache-control", "x-frame-options", "x-from", "expires")
        if version == "h2":
            with H2Client(self.address) as client:
                stream = client.get(host, path=f"/{status}")
                client.read_until(lambda: stream in client.ended)
                assert client.statuses[stream] == status
                head = client.heads[stream]
                found = {name: head[name] for name in names if name in head}
        else:
            with rawclient.Connection(self.address) as connection:
                response = connection.get(host, f"/{status}")
                assert response.status == status
                found = {
                    name: value.decode()
                    for name in names
                    if (value := response.get(name)) is not None
                }
        return found


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    made = Edited(tmp_path_factory.mktemp("edited"))
    yield made
    made.stop()


THEIRS = {"cache-control": "theirs", "x-from": "theirs"}
NO_STORE = {"cache-control": "no-store"}
DENY = {"x-frame-options": "DENY"}
EXPECTED = [
    ("success.up.test", 200, {**THEIRS, "cache-control": MONTH}),
    ("success.up.test", 304, {**THEIRS, "cache-control": MONTH}),
    ("success.up.test", 404, THEIRS),
    ("success.up.test", 500, THEIRS),
    ("success.down.test", 502, NO_STORE),
    ("plain.up.test", 200, {**THEIRS, "cache-control": MONTH, **DENY}),
    ("plain.up.test", 404, {**THEIRS, "cache-control": MONTH, **DENY}),
    ("plain.down.test", 502, NO_STORE | DENY),
    ("all.up.test", 404, {**THEIRS, "cache-control": MONTH}),
    ("all.down.test", 502, {"cache-control": MONTH}),
    ("removed.up.test", 200, {}),
    ("removed.down.test", 502, NO_STORE),
    (
        "made.up.test",
        200,
        {**THEIRS, "x-from": "127.0.0.1", "expires": "http", "x-frame-options": "made-up"},
    ),
    ("made.up.test", 404, {**THEIRS, "expires": "http", "x-frame-options": "made-up"}),
    ("made.down.test", 502, NO_STORE | {"x-frame-options": "made-down"}),
]


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize(("host", "status", "expected"), EXPECTED)
def test_an_edit_is_for_the_answers_that_it_names(
    edited: Edited, host: str, status: int, expected: dict[str, str], version: str
) -> None:
    assert edited.ask(host, status, version) == expected


@pytest.mark.parametrize("cluster", ["up", "down"])
def test_several_lines_of_one_name_are_added(edited: Edited, cluster: str) -> None:
    """Beside those of a backend, and each as a line of its own, which cookies need."""
    host = f"several.{cluster}.test"
    wanted = {
        "set-cookie": ["a=1; Path=/", "b=http"],
        "x-from": [*(["theirs"] if cluster == "up" else []), "one", "two"],
    }
    with rawclient.Connection(edited.address) as connection:
        response = connection.get(host, "/200")
        found = {name: [value.decode() for value in response.all(name)] for name in wanted}
        assert found == wanted
    with H2Client(edited.address) as client:
        stream = client.get(host, path="/200")
        client.read_until(lambda: stream in client.ended)
        lines = client.lines[stream]
        assert {name: [v for n, v in lines if n == name] for name in wanted} == wanted
