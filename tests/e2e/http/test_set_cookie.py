"""Cookies that backends set, put right on their way to clients."""

from __future__ import annotations

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

SET = [
    ("Set-Cookie", "session=1; Domain=app.internal; Path=/app/x; SameSite=None"),
    ("Set-Cookie", "theme=dark;path=/;Max-Age=60"),
    ("X-Beside", "kept"),
    ("set-cookie", "kept=as; it=is"),
]
BODY = b"a" * 4000
SAFE = {"secure": True, "http_only": True, "same_site": "lax"}
POLICIES: dict[str, Any] = {
    "safe": {"set_cookie": {"*": SAFE, "session": {"secure": True, "domain": "shop.test"}}},
}
FRONTENDS: dict[str, dict[str, Any]] = {
    "open": {},
    "all": {"set_cookie": {"*": SAFE, "kept": None}},
    "moved": {
        "set_cookie": {
            "session": {"domain": "drop", "path": {"/app": "/"}, "same_site": "strict"},
            "theme": {"path": {"/": "/static"}},
        }
    },
    "shared": {"policies": ["safe"], "set_cookie": {"theme": None, "kept": {"http_only": True}}},
    "removed": {"set_cookie": {"*": SAFE}, "response_headers": {"remove": ["Set-Cookie"]}},
    "own": {
        "set_cookie": {"*": {"secure": True}},
        "response_headers": {"set": {"Set-Cookie": "own=1"}},
    },
    "small": {"set_cookie": {"*": {"secure": True}}, "compression": {}},
}
EXPECTED: dict[str, list[str]] = {
    "open": [value for name, value in SET if name.lower() == "set-cookie"],
    "all": [
        "session=1; Domain=app.internal; Path=/app/x; Secure; HttpOnly; SameSite=Lax",
        "theme=dark; path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax",
        "kept=as; it=is",
    ],
    "moved": [
        "session=1; Path=/x; SameSite=Strict",
        "theme=dark; path=/static/; Max-Age=60",
        "kept=as; it=is",
    ],
    "shared": [
        "session=1; Domain=shop.test; Path=/app/x; SameSite=None; Secure",
        "theme=dark;path=/;Max-Age=60",
        "kept=as; it=is; HttpOnly",
    ],
    "removed": [],
    "own": ["own=1"],
    "small": [
        "session=1; Domain=app.internal; Path=/app/x; SameSite=None; Secure",
        "theme=dark; path=/; Max-Age=60; Secure",
        "kept=as; it=is; Secure",
    ],
}


class Baking:
    """One worker, whose backends set the same cookies over either version."""

    def __init__(self, directory: Path) -> None:
        self.text, self.frames = RawBackend(self._answer), H2Backend(self._stream)
        self.plain = ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        clusters: dict[str, Any] = {
            "text": {"backends": {"b": {"address": self.text.address}}},
            "frames": {"protocol": "h2", "backends": {"b": {"address": self.frames.address}}},
        }
        document = {
            "settings": {"access_log": str(self.daemon.access_log)},
            "listeners": {"plain": {"address": self.plain, "h2c": True}},
            "clusters": clusters,
            "policies": POLICIES,
            "frontends": {
                f"{name}-{cluster}": {
                    "listeners": ["plain"],
                    "hostname": f"{name}.{cluster}.test",
                    "cluster": cluster,
                    **keys,
                }
                for name, keys in FRONTENDS.items()
                for cluster in clusters
            },
        }
        self.daemon.repo.commit({"kakehi.yaml": document})
        self.daemon.start()

    @staticmethod
    def _answer(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(wire.response(BODY, fields=[*SET, ("Content-Type", "text/plain")]))

    @staticmethod
    def _stream(request: Request) -> None:
        request.read()
        lines = [(name.lower(), value) for name, value in SET]
        request.answer(BODY, 200, *lines, ("content-type", "text/plain"))

    def stop(self) -> None:
        self.daemon.stop()
        self.text.stop()
        self.frames.stop()


@pytest.fixture(scope="module")
def baking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baking]:
    made = Baking(tmp_path_factory.mktemp("baking"))
    yield made
    made.stop()


@pytest.mark.parametrize("cluster", ["text", "frames"])
@pytest.mark.parametrize("name", sorted(FRONTENDS))
def test_cookies_are_what_a_frontend_says(baking: Baking, name: str, cluster: str) -> None:
    host = f"{name}.{cluster}.test"
    with rawclient.Connection(baking.plain) as connection:
        response = connection.get(host, "/", "Accept-Encoding: gzip")
    assert [line.decode() for line in response.all("set-cookie")] == EXPECTED[name]
    assert response.get("x-beside") == b"kept"
    # What sets cookies is not compressed, whoever has written the lines.
    assert (response.get("content-encoding"), response.body) == (None, BODY)
    with H2Client(baking.plain) as client:
        stream = client.get(host)
        client.read_until(lambda: stream in client.ended)
        lines = [value for name, value in client.lines[stream] if name == "set-cookie"]
    assert lines == EXPECTED[name]


def test_an_answer_of_our_own_sets_what_it_says(baking: Baking) -> None:
    with rawclient.Connection(baking.plain) as connection:
        response = connection.get("own.text.test", "/", method="TRACE")
    assert response.status == 405
    assert response.all("set-cookie") == [b"own=1"]
