"""What frontends ask of requests beside a hostname and a plain path, over both versions of HTTP.

Each frontend answers with its own name, so that the answer tells which one has been chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.repo import Repo

FRONTENDS: dict[str, dict[str, Any]] = {
    "path-all": {"hostname": "path.test"},
    "path-php": {"hostname": "path.test", "path": {"suffix": ".php"}},
    "path-admin-php": {"hostname": "path.test", "path": {"suffix": "admin.php"}},
    "path-any-png": {
        "hostname": "path.test",
        "path": {"suffix": ".PNG", "ignore_case": True},
    },
    "path-numbers": {"hostname": "path.test", "path": {"regex": "/[0-9]+[.]php"}},
    "path-api": {"hostname": "path.test", "path": {"prefix": "/api"}},
    "path-exact": {"hostname": "path.test", "path": {"exact": "/exact.php"}},
    "path-case": {
        "hostname": "path.test",
        "path": {"regex": "/Case/[a-f]+", "ignore_case": True},
    },
    "value-any": {"hostname": "value.test"},
    "value-there": {"hostname": "value.test", "headers": {"x-a": {"present": True}}},
    "value-bot": {
        "hostname": "value.test",
        "path": {"prefix": "/bots"},
        "headers": {"user-agent": {"regex": ".*bot.*"}},
    },
    "value-no-bot": {
        "hostname": "value.test",
        "path": {"prefix": "/people"},
        "headers": {"user-agent": {"regex": ".*bot.*", "not": True}},
    },
    "value-query": {
        "hostname": "value.test",
        "path": {"prefix": "/query"},
        "query": {"v": {"exact": "2", "not": True}, "debug": {"present": False}},
    },
    "cookie-any": {"hostname": "cookie.test"},
    "cookie-beta": {"hostname": "cookie.test", "cookies": {"beta": "1"}},
    "cookie-two": {"hostname": "cookie.test", "cookies": {"beta": "1", "a": {"regex": "[a-z]+"}}},
    "cookie-new": {
        "hostname": "cookie.test",
        "path": {"exact": "/new"},
        "cookies": {"session": {"present": False}},
    },
    "header-over-cookies": {"hostname": "cookie.test", "headers": {"x-a": "1"}},
    "client-any": {"hostname": "client.test"},
    "client-near": {"hostname": "client.test", "client_addresses": ["127.0.0.0/8", "::1"]},
    "client-far": {"hostname": "client.test", "client_addresses": ["198.51.100.0/24"]},
    "client-beta": {"hostname": "client.test", "cookies": {"beta": "1"}},
    "several": {"hostnames": ["a.several.test", "*.many.test", "[::1]"]},
    "several-any": {"hostnames": ["*", "x.named.test"], "path": {"prefix": "/any"}},
    "several-none": {"hostname": "*.named.test"},
    "several-more": {"hostname": "b.many.test"},
    "several-path": {
        "hostnames": ["a.several.test", "b.many.test"],
        "path": {"prefix": "/path"},
    },
}

Ask = Callable[..., str]


class Conditions:
    """A daemon with all of the frontends on a listener that speaks both versions in clear text."""

    def __init__(self, directory: Path) -> None:
        self.plain, self.behind, self.told = (ports.address() for _ in range(3))
        self.daemon = Kakehi(Repo(directory), workers=1)
        self.daemon.repo.commit({"kakehi.yaml": self.document()})
        self.daemon.start()

    def document(self) -> dict[str, Any]:
        return {
            "listeners": {
                "plain": {"address": self.plain, "h2c": True},
                "behind": {
                    "address": self.behind,
                    "h2c": True,
                    "trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"],
                },
                "told": {"address": self.told, "h2c": True, "proxy_protocol": ["127.0.0.0/8"]},
            },
            "frontends": {
                name: {
                    "listeners": ["behind", "plain", "told"],
                    "respond": {"status": 200, "body": name},
                    **match,
                }
                for name, match in FRONTENDS.items()
            },
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conditions]:
    made = Conditions(tmp_path_factory.mktemp("conditions"))
    yield made
    made.daemon.stop()


def ask_h1(address: str, host: str, path: str, fields: list[tuple[str, str]]) -> str:
    with rawclient.Connection(address) as client:
        lines = [f"{name}: {value}" for name, value in fields]
        response = client.get(host, path, *lines)
        return response.body.decode() if response.status == 200 else str(response.status)


def ask_h2(address: str, host: str, path: str, fields: list[tuple[str, str]]) -> str:
    with H2Client(address) as client:
        stream = client.get(host, *fields, path=path)
        client.read_until(lambda: stream in client.ended)
        status = client.statuses[stream]
        return client.bodies[stream].decode() if status == 200 else str(status)


@pytest.fixture(params=[ask_h1, ask_h2], ids=["h1", "h2"])
def ask(request: pytest.FixtureRequest, site: Conditions) -> Ask:
    def asking(host: str, path: str = "/", *fields: tuple[str, str], at: str = "") -> str:
        found: str = request.param(at or site.plain, host, path, list(fields))
        return found

    return asking


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "path-all"),
        ("/index.php", "path-php"),
        ("/a/b/index.php?x=1", "path-php"),
        ("/a/admin.php", "path-admin-php"),
        ("/index.php/", "path-all"),
        ("/index.PHP", "path-all"),
        ("/index.ph%70", "path-php"),
        ("/a/../index.php", "path-php"),
        ("/index.php%2f", "path-all"),
        ("/17.php", "path-numbers"),
        ("/exact.php", "path-exact"),
        # What begins longer goes first, even if a suffix says more.
        ("/api/index.php", "path-api"),
        ("/a.png", "path-any-png"),
        ("/a.PnG", "path-any-png"),
        ("/CASE/Ab", "path-case"),
        ("/case/x", "path-all"),
    ],
)
def test_paths_by_their_end_and_whatever_their_case(ask: Ask, path: str, expected: str) -> None:
    assert ask("path.test", path) == expected


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/", [], "value-any"),
        ("/", [("x-a", "")], "value-there"),
        ("/", [("x-a", "1"), ("x-a", "2")], "value-there"),
        ("/bots", [("user-agent", "a bot")], "value-bot"),
        ("/bots", [], "value-any"),
        ("/people", [("user-agent", "a bot")], "value-any"),
        ("/people", [("user-agent", "a person")], "value-no-bot"),
        # Nothing that is not there is what it must not be.
        ("/people", [], "value-no-bot"),
        # One of several is enough to be it.
        ("/people", [("user-agent", "a person"), ("user-agent", "a bot")], "value-any"),
        ("/query", [], "value-query"),
        ("/query?v=3", [], "value-query"),
        ("/query?v=2", [], "value-any"),
        ("/query?%76=%32", [], "value-any"),
        # The first one counts.
        ("/query?v=3&v=2", [], "value-query"),
        ("/query?v=2&v=3", [], "value-any"),
        ("/query?debug", [], "value-any"),
    ],
)
def test_values_that_must_be_there_or_must_not(
    ask: Ask, path: str, fields: list[tuple[str, str]], expected: str
) -> None:
    assert ask("value.test", path, *fields) == expected


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        ([], "cookie-any"),
        (["beta=1"], "cookie-beta"),
        (["a=1; beta=1"], "cookie-beta"),
        (["a=x;beta=1"], "cookie-two"),
        (["a=x", "beta=1"], "cookie-two"),
        (["beta=2; beta=1"], "cookie-any"),
        (["beta=1; beta=2"], "cookie-beta"),
        (["beta=2", "beta=1"], "cookie-any"),
        (["Beta=1"], "cookie-any"),
        (["beta=11"], "cookie-any"),
        (["xbeta=1; beta"], "cookie-any"),
    ],
)
def test_cookies(ask: Ask, cookies: list[str], expected: str) -> None:
    assert ask("cookie.test", "/", *(("cookie", each) for each in cookies)) == expected


def test_a_cookie_that_is_not_there_and_what_goes_before_cookies(ask: Ask) -> None:
    assert ask("cookie.test", "/new") == "cookie-new"
    assert ask("cookie.test", "/new", ("cookie", "session=")) == "cookie-any"
    fields = [("cookie", "beta=1; a=x"), ("x-a", "1")]
    assert ask("cookie.test", "/", *fields) == "header-over-cookies"


def test_clients_by_their_network(ask: Ask) -> None:
    assert ask("client.test") == "client-near"
    # Of somebody who is trusted with nothing it means nothing (T22).
    assert ask("client.test", "/", ("x-forwarded-for", "198.51.100.7")) == "client-near"
    assert ask("client.test", "/", ("cookie", "beta=1")) == "client-beta"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ([], "client-near"),
        (["198.51.100.7"], "client-far"),
        (["198.51.100.7, 10.0.0.1"], "client-far"),
        (["198.51.100.7", "10.0.0.1, 127.0.0.1"], "client-far"),
        # What stands before the last that is not trusted is anybody's word.
        (["198.51.100.7, 192.0.2.1"], "client-any"),
        # Nobody knows where that comes from, least of all that it is the proxy.
        (["198.51.100.7, nonsense"], "client-any"),
        (["192.0.2.1, 198.51.100.7"], "client-far"),
    ],
)
def test_clients_as_a_trusted_proxy_tells_them(
    ask: Ask, site: Conditions, forwarded: list[str], expected: str
) -> None:
    fields = [("x-forwarded-for", each) for each in forwarded]
    assert ask("client.test", "/", *fields, at=site.behind) == expected


@pytest.mark.parametrize(
    ("source", "expected"), [("198.51.100.9", "client-far"), ("192.0.2.7", "client-any")]
)
def test_clients_as_the_proxy_protocol_tells_them(
    site: Conditions, source: str, expected: str
) -> None:
    with rawclient.Connection(site.told) as client:
        client.send(f"PROXY TCP4 {source} 192.0.2.200 56324 80\r\n".encode())
        assert client.get("client.test").body.decode() == expected


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("a.several.test", "/", "several"),
        ("A.Several.test", "/path/x", "several-path"),
        ("x.many.test", "/", "several"),
        ("x.many.test", "/path", "several"),
        ("b.many.test", "/", "several-more"),
        ("b.many.test", "/path", "several-path"),
        ("[::1]", "/", "several"),
        ("several.test", "/", "404"),
        ("elsewhere.test", "/any", "several-any"),
        ("x.named.test", "/any", "several-any"),
        ("y.named.test", "/any", "several-none"),
        ("many.test", "/", "404"),
    ],
)
def test_several_hostnames(ask: Ask, host: str, path: str, expected: str) -> None:
    assert ask(host, path) == expected


def test_a_hostname_comes_and_goes_by_itself(site: Conditions, ask: Ask) -> None:
    """And the frontend stays what it is for the others."""
    base = site.document()
    base["frontends"]["several"]["hostnames"] = ["*.many.test", "c.several.test"]
    site.daemon.commit({"kakehi.yaml": base})
    assert ask("a.several.test") == "404"
    assert ask("c.several.test") == ask("x.many.test") == "several"
    site.daemon.commit({"kakehi.yaml": site.document()})
    assert ask("a.several.test") == "several"
    assert ask("c.several.test") == "404"
