"""Clear text is sent to TLS, and browsers are told to stay there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.tlssite import TlsSite

HSTS = b"max-age=31536000; includeSubDomains"


class Strict(TlsSite):
    """`www.test` is sent to TLS and has HSTS; `plain.test` has neither."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        own = [("Strict-Transport-Security", "max-age=1"), ("X-Other", "kept")]
        self.raw = RawBackend(answer(wire.response(b"x", fields=own)))
        self.behind, self.h2c = ports.address(), ports.address()
        files = self.files(
            {"shop": self.leaf("www.test", "plain.test", "own.test", "plain-own.test")},
            clusters={"main": ["red"], "raw": [self.raw.address]},
            frontends={"www": "main", "plain": "main", "own": "raw", "plain-own": "raw"},
        )
        document: Any = files["kakehi.yaml"]
        document["listeners"] |= {
            "behind": {"address": self.behind, "trusted_proxies": ["127.0.0.0/8"]},
            "h2c": {"address": self.h2c, "h2c": True},
        }
        hsts = {"max_age_days": 365, "include_subdomains": True}
        for frontend in document["frontends"].values():
            frontend["listeners"] = ["behind", "h2c", "main", "secure"]
        document["frontends"]["www"] |= {"redirect": "https", "hsts": hsts}
        document["frontends"]["own"] |= {"hsts": hsts}
        self.start(files)

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()

    @property
    def port(self) -> str:
        return self.https.rpartition(":")[2]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    with Strict(tmp_path_factory.mktemp("strict")) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_clear_text_is_sent_to_the_same_place_over_tls(strict: Strict, method: str) -> None:
    with rawclient.Connection(strict.address) as client:
        response = client.get("WWW.test:80", "/a/../b%20c?d=e%0D%0A&f", method=method)
        assert response.status == 308
        assert response.get("location") == (
            f"https://www.test:{strict.port}/b%20c?d=e%0D%0A&f".encode()
        )
        assert response.get("strict-transport-security") is None, "not over clear text"
        # The connection goes on.
        assert client.get("plain.test").status == 200
    [*_, entry] = strict.daemon.wait_for_access(lambda each: each["status"] == 308)
    told = {name: entry[name] for name in ("outcome", "frontend", "cluster", "backend")}
    assert told == {
        "outcome": "redirected",
        "frontend": "www",
        "cluster": None,
        "backend": None,
    }


def test_what_a_trusted_proxy_got_over_tls_is_not_sent_there_again(strict: Strict) -> None:
    with rawclient.Connection(strict.behind) as client:
        assert client.get("www.test", "/", "X-Forwarded-Proto: https").status == 200
        assert client.get("www.test", "/", "X-Forwarded-Proto: http").status == 308
    with rawclient.Connection(strict.address) as client:
        # Anybody could say so.
        assert client.get("www.test", "/", "X-Forwarded-Proto: https").status == 308


def test_browsers_are_told_in_every_response_over_tls(strict: Strict) -> None:
    with strict.connect("www.test") as client:
        response = client.get("www.test")
        assert response.status == 200
        assert response.all("strict-transport-security") == [HSTS]
    with strict.connect("plain.test") as client:
        assert client.get("plain.test").get("strict-transport-security") is None


def test_answers_of_our_own_over_tls_tell_it_too(strict: Strict) -> None:
    """Whether a backend could not be asked, or was not."""
    fields = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 12")
    with strict.connect("www.test") as client:
        response = client.get(
            "www.test", "/", *fields, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        )
        assert response.status == 426
        assert response.all("strict-transport-security") == [HSTS]
        assert client.get("nowhere.test").all("strict-transport-security") == []


def test_the_backends_own_word_gives_way_to_the_frontends(strict: Strict) -> None:
    for host, expected in (("own.test", HSTS), ("plain-own.test", b"max-age=1")):
        with strict.connect(host) as client:
            response = client.get(host)
        assert response.all("strict-transport-security") == [expected]
        assert response.get("x-other") == b"kept"


def test_a_stream_is_sent_there_too(strict: Strict) -> None:
    with H2Client(strict.h2c) as client:
        stream = client.h2.get_next_available_stream_id()
        fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/x"),
            (":authority", "www.test"),
        ]
        client.h2.send_headers(stream, fields, end_stream=True)
        client.flush()
        client.read_until(lambda: stream in client.ended)
        assert client.statuses[stream] == 308


def test_explain_tells_of_it(strict: Strict) -> None:
    port = strict.address.rpartition(":")[2]
    said = strict.daemon.run_cli("explain", f"http://www.test:{port}/", check=True).stdout
    assert f"it is sent to https://www.test:{strict.port}/: 308" in said
