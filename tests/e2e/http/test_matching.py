"""Which frontend serves a request: hostname, path, method, headers, query, and who goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.gateway import Gateway
from tests.harness.rawbackend import RawBackend

# name → match; each frontend has a cluster of its own, which answers with the frontend's name.
FRONTENDS: dict[str, dict[str, Any]] = {
    "exact-host": {"hostname": "shop.example.com"},
    "exact-deep": {"hostname": "a.b.example.com"},
    "wildcard": {"hostname": "*.example.com"},
    "wildcard-deep": {"hostname": "*.b.example.com"},
    "any-host": {"hostname": "*", "path": {"prefix": "/any"}},
    "path-root": {"hostname": "path.test", "path": {"prefix": "/"}},
    "path-api": {"hostname": "path.test", "path": {"prefix": "/api"}},
    "path-api-v2": {"hostname": "path.test", "path": {"prefix": "/api/v2/"}},
    "path-exact": {"hostname": "path.test", "path": {"exact": "/api/v2"}},
    "path-exact-slash": {"hostname": "path.test", "path": {"exact": "/exact/"}},
    "regex-only": {"hostname": "regex.test", "path": {"regex": "/item/[0-9]+"}},
    "regex-prefix": {"hostname": "regex.test", "path": {"prefix": "/item/7"}},
    "regex-exact": {"hostname": "regex.test", "path": {"exact": "/item/77"}},
    "regex-beside-all": {"hostname": "beside.test", "path": {"regex": ".*\\.png"}},
    "all-beside-regex": {"hostname": "beside.test"},
    "longer-beside-regex": {"hostname": "beside.test", "path": {"prefix": "/static"}},
    "method-any": {"hostname": "method.test"},
    "method-get": {"hostname": "method.test", "methods": ["GET", "HEAD"]},
    "method-post-only": {"hostname": "post.test", "methods": ["POST"]},
    "header-none": {"hostname": "header.test"},
    "header-one": {"hostname": "header.test", "headers": {"X-Tier": "gold"}},
    "header-two": {"hostname": "header.test", "headers": {"x-tier": "gold", "x-beta": "1"}},
    "header-regex": {"hostname": "header.test", "headers": {"x-user": {"regex": "u[0-9]+"}}},
    "query-none": {"hostname": "query.test"},
    "query-one": {"hostname": "query.test", "query": {"version": "2"}},
    "query-two": {"hostname": "query.test", "query": {"version": "2", "beta": "yes"}},
    "query-regex": {"hostname": "query.test", "query": {"id": {"regex": "[a-f]+"}}},
    "method-over-header": {"hostname": "rank.test", "methods": ["GET"]},
    "header-under-method": {"hostname": "rank.test", "headers": {"x-a": "1"}},
    "header-over-query": {"hostname": "rank2.test", "headers": {"x-a": "1"}},
    "query-under-header": {"hostname": "rank2.test", "query": {"a": "1", "b": "2"}},
    "path-over-method": {"hostname": "rank3.test", "path": {"prefix": "/long"}},
    "method-under-path": {"hostname": "rank3.test", "methods": ["GET"]},
}


Ask = Callable[..., str]


@pytest.fixture(scope="module")
def matches(shared_gateway: Gateway) -> Iterator[str]:
    """A listener with all of the frontends; returns its name. Each cluster has its backend."""
    answering: dict[str, RawBackend] = {}
    for name in FRONTENDS:
        data = wire.response(name.encode())
        answering[name] = RawBackend(lambda exchange, data=data: exchange.send(data))
    shared_gateway.extend(
        listeners={"matches": {"address": ports.address()}},
        clusters={
            f"m-{name}": {"backends": {"raw": {"address": backend.address}}}
            for name, backend in answering.items()
        },
        frontends={
            f"m-{name}": {"listeners": ["matches"], "cluster": f"m-{name}", **match}
            for name, match in FRONTENDS.items()
        },
    )
    yield "matches"
    for backend in answering.values():
        backend.stop()


@pytest.fixture
def ask(gateway: Gateway, matches: str) -> Ask:
    """Ask for a path of a host; returns the frontend's name, or the status as text."""
    client: rawclient.Connection = gateway.connect(matches)

    def asking(host: str, path: str = "/", *fields: str, method: str = "GET") -> str:
        response = client.get(host, path, *fields, method=method)
        return response.body.decode() if response.status == 200 else str(response.status)

    return asking


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("shop.example.com", "exact-host"),
        ("SHOP.Example.COM", "exact-host"),
        ("shop.example.com:8080", "exact-host"),
        ("shop.example.com.", "exact-host"),
        ("other.example.com", "wildcard"),
        ("OTHER.example.com:1", "wildcard"),
        ("x.y.example.com", "wildcard"),
        ("a.b.example.com", "exact-deep"),
        ("c.b.example.com", "wildcard-deep"),
        ("b.example.com", "wildcard"),
        ("example.com", "404"),
        ("notexample.com", "404"),
        ("shop.example.com.evil.test", "404"),
        ("xshop.example.org", "404"),
    ],
)
def test_hostname(ask: Ask, host: str, expected: str) -> None:
    assert ask(host) == expected


@pytest.mark.parametrize("host", ["whatever.test", "127.0.0.1", "[::1]:80", "a"])
def test_any_hostname(ask: Ask, host: str) -> None:
    assert ask(host, "/any/thing") == "any-host"
    assert ask(host, "/anything") == "404"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "path-root"),
        ("/other", "path-root"),
        ("/api", "path-api"),
        ("/api/", "path-api"),
        ("/api/v1", "path-api"),
        ("/apis", "path-root"),
        ("/api?x=/api/v2/", "path-api"),
        ("/api/v2", "path-exact"),
        ("/api/v2?x=1", "path-exact"),
        ("/api/v2/", "path-api-v2"),
        ("/api/v2/x/y", "path-api-v2"),
        ("/api/v20", "path-api"),
        ("/API/v2/x", "path-root"),
        ("/exact/", "path-exact-slash"),
        ("/exact", "path-root"),
        ("/exact/x", "path-root"),
    ],
)
def test_path(ask: Ask, path: str, expected: str) -> None:
    assert ask("path.test", path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/item/5", "regex-only"),
        ("/item/5?q=1", "regex-only"),
        ("/item/7", "regex-prefix"),
        ("/item/7/8", "regex-prefix"),
        ("/item/77", "regex-exact"),
        ("/item/", "404"),
        ("/item/5x", "404"),
        ("/an/item/5", "404"),
    ],
)
def test_a_regex_is_anchored_and_competes_by_its_beginning(
    ask: Ask, path: str, expected: str
) -> None:
    assert ask("regex.test", path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a.png", "regex-beside-all"),
        ("/a/b.png", "regex-beside-all"),
        ("/a.html", "all-beside-regex"),
        ("/static/a.png", "longer-beside-regex"),
    ],
)
def test_a_regex_beside_a_catch_all_gets_its_requests(ask: Ask, path: str, expected: str) -> None:
    assert ask("beside.test", path) == expected


def test_method(ask: Ask) -> None:
    assert ask("method.test") == "method-get"
    assert ask("method.test", method="DELETE") == "method-any"
    assert ask("method.test", method="GETS") == "method-any"
    assert ask("post.test") == "404"
    assert ask("post.test", "/", "Content-Length: 0", method="POST") == "method-post-only"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], "header-none"),
        (["X-Tier: gold"], "header-one"),
        (["x-tier: gold", "X-Beta: 1"], "header-two"),
        (["X-Tier: Gold"], "header-none"),
        (["X-Tier: golden"], "header-none"),
        (["X-Beta: 1"], "header-none"),
        (["X-User: u42"], "header-regex"),
        (["X-User: xu42"], "header-none"),
        (["X-User: u42x"], "header-none"),
    ],
)
def test_headers(ask: Ask, fields: list[str], expected: str) -> None:
    assert ask("header.test", "/", *fields) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "query-none"),
        ("?version=2", "query-one"),
        ("?x=1&version=2", "query-one"),
        ("?version=2&beta=yes", "query-two"),
        ("?beta=yes&version=2", "query-two"),
        ("?version=22", "query-none"),
        ("?xversion=2", "query-none"),
        ("?version", "query-none"),
        ("?version=", "query-none"),
        ("?id=abc", "query-regex"),
        ("?id=abz", "query-none"),
    ],
)
def test_query(ask: Ask, query: str, expected: str) -> None:
    assert ask("query.test", "/" + query) == expected


def test_precedence_between_the_kinds_of_match(ask: Ask) -> None:
    assert ask("rank.test", "/", "X-A: 1") == "method-over-header"
    assert ask("rank.test", "/", "X-A: 1", method="DELETE") == "header-under-method"
    assert ask("rank2.test", "/?a=1&b=2", "X-A: 1") == "header-over-query"
    assert ask("rank2.test", "/?a=1&b=2") == "query-under-header"
    assert ask("rank3.test", "/long") == "path-over-method"
    assert ask("rank3.test", "/short") == "method-under-path"


def test_keep_alive_clients_are_matched_anew_for_each_request(ask: Ask) -> None:
    for _ in range(3):
        assert ask("shop.example.com") == "exact-host"
        assert ask("other.example.com") == "wildcard"
        assert ask("nowhere.test") == "404"
        assert ask("path.test", "/api") == "path-api"


def test_frontends_belong_to_their_listener(gateway: Gateway, matches: str) -> None:
    client = gateway.connect("main")
    assert client.get("shop.example.com").status == 404


def test_no_match_is_a_404_that_says_little(gateway: Gateway) -> None:
    response = gateway.connect().get("nowhere.test", "/secret?token=1")
    assert response.status == 404
    assert response.keeps_alive
    assert b"secret" not in response.body
