"""The site of docs/porting/nginx.conf through nginx and through Kakehi, request by request.

Where both differ, docs/porting/nginx.md says why; the tests have it by both answers.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.catalog.catalog import load_directory
from schemas.kinds.frontend import Frontend
from tests.e2e.ports.side_by_side import (
    HTPASSWD,
    LARGE,
    PORTING,
    Backends,
    Front,
    Seen,
    both,
    is_told,
    ported,
)
from tests.harness import pki, rawclient
from tests.harness.nginx import NginxProcess
from tests.harness.pki import Pair

GROUPS = {
    9101: "app",
    9102: "app",
    9103: "app",
    9104: "api",
    9105: "api",
    9106: "assets",
    9107: "chat",
    9108: "chat",
    9109: "app",
    9110: "acme",
    9111: "verify",
    9112: "shadow",
    9113: "health",
}
HOST, API, WWW = "example.com", "api.example.com", "www.example.com"
BOT = "User-Agent: AhrefsBot/7.0"
ADMIN = "Authorization: Basic YW5uOnNlY3JldA=="
SIGNED_IN = "Cookie: session=ok"


class Sides:
    """Both, in front of the same backends."""

    def __init__(self, directory: Path) -> None:
        self.backends = Backends(GROUPS)
        authority = pki.make("Kakehi test authority", is_ca=True)
        self.pair = pki.make(HOST, WWW, API, issuer=authority)
        self.theirs, self.ours = Front(authority), Front(authority)
        self.daemon = ported("nginx", self.ours, self.backends, self.pair, directory / "ours")
        self.daemon.start()
        (directory / "theirs").mkdir()
        self.nginx = NginxProcess(
            directory / "theirs",
            original(self.theirs, self.backends, self.pair, directory / "theirs"),
            [self.theirs.http, self.theirs.https],
        )

    def stop(self) -> None:
        self.daemon.stop()
        self.nginx.stop()
        self.backends.stop()


def original(front: Front, backends: Backends, pair: Pair, directory: Path) -> str:
    """What stands in the http block of the original, with addresses and paths of this test."""
    text = (PORTING / "nginx.conf").read_text()
    text = text[text.index("http {") + len("http {") : text.index("\n}\nstream {")]
    text = backends.placed(text)
    text = re.sub(r"listen \[::\]:\d+[^;]*;", "", text)
    text = text.replace("listen 80", f"listen {front.http}")
    text = text.replace("listen 443", f"listen {front.https}")
    (directory / "example.pem").write_bytes(pair.key + pair.chain)
    (directory / "htpasswd").write_text(HTPASSWD)
    (directory / "maintenance.html").write_text("<h1>Back soon</h1>\n")
    text = re.sub(r"    access_log /var.*\n", "", text)
    text = re.sub(r"    log_format .*\n(?:.*';\n)?", "", text)
    for written, there in {
        " example.pem": f" {directory}/example.pem",
        "/etc/nginx/htpasswd": f"{directory}/htpasswd",
        "/var/www/errors": str(directory),
    }.items():
        assert written in text, written
        text = text.replace(written, there)
    return text


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    made = Sides(tmp_path_factory.mktemp("nginx"))
    yield made
    made.stop()


SAME = [
    (HOST, "/", ()),
    (HOST, "/search?q=a%20b&c", ()),
    (HOST, "/healthz", ()),
    (HOST, "/", (BOT,)),
    (HOST, "/old/a/b?c=d", ()),
    (HOST, "/old/", ()),
    (HOST, "/p/42?x=1", ()),
    (HOST, "/p/42/", ()),
    (HOST, "/p/42/x", ()),
    (HOST, "/logo.PNG", ()),
    (HOST, "/a/b/site.css?v=2", ()),
    (HOST, "/login?next=/", ()),
    (HOST, "/upload/a", ()),
    (HOST, "/internal/x", ()),
    (HOST, "/admin/x", ()),
    (HOST, "/admin/x", ("Authorization: Basic YW5uOm90aGVy",)),
    (HOST, "/admin/x", (ADMIN,)),
    (API, "/v2/items", ("Origin: https://example.com",)),
    (API, "/nothing", ()),
    (HOST, "/_auth", ()),
    (HOST, "/maintenance.html", ()),
    (WWW, "/a/b?c=d", ()),
]


@pytest.mark.parametrize(("host", "path", "fields"), SAME)
def test_both_do_the_same(sides: Sides, host: str, path: str, fields: tuple[str, ...]) -> None:
    theirs, ours = (side.ask(host, path, *fields) for side in (sides.theirs, sides.ours))
    assert comparable(ours) == comparable(theirs)


def comparable(seen: Seen) -> Seen:
    """Without what Kakehi says of the answers that it gives itself."""
    if seen.asked or seen.headers.get("cache-control") != "no-store":
        return seen
    headers = {name: value for name, value in seen.headers.items() if name != "cache-control"}
    return replace(seen, headers=headers)


@pytest.mark.parametrize("host", [HOST, WWW, API])
@pytest.mark.parametrize("path", ["/", "/a?b=c", "/.well-known/acme-challenge/token"])
def test_in_clear_text_both_do_the_same(sides: Sides, host: str, path: str) -> None:
    theirs, ours = (side.ask(host, path, secure=False) for side in (sides.theirs, sides.ours))
    assert comparable(ours) == comparable(theirs)


def test_both_compress_alike(sides: Sides) -> None:
    told = []
    for side in (sides.theirs, sides.ours):
        with side.connect(HOST) as client:
            got = client.get(HOST, "/large", "Accept-Encoding: gzip")
            assert gzip.decompress(got.body) == LARGE
            names = ("content-encoding", "etag", "vary", "content-length", "content-type")
            told.append([got.get(name) for name in names])
            assert client.get(HOST, "/large").body == LARGE
    assert told[0] == told[1]
    assert told[0][:3] == [b"gzip", b'W/"a"', b"Accept-Encoding"]


def test_nobody_else_gets_an_answer(sides: Sides) -> None:
    for side in (sides.theirs, sides.ours):
        with rawclient.Connection(side.http) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
            client.expect_closed()


def test_bodies_that_are_too_large(sides: Sides) -> None:
    for side in (sides.theirs, sides.ours):
        with side.connect(HOST) as client:
            head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 11000000\r\n\r\n"
            client.send(head.encode())
            assert client.read_response("POST").status == 413
        seen = side.ask(HOST, "/upload/a", method="POST", body=bytes(11_000_000))
        assert (seen.status, seen.asked and seen.asked["backend"]) == (200, "app")


def test_how_long_errors_may_be_kept_is_not_said(sides: Sides) -> None:
    assets = sides.backends.by_port[9106]
    for path, expected in [
        ("/static/b.txt", "max-age=2592000, public, immutable"),
        ("/static/b.txt?status=404", None),
    ]:
        seen = both(sides.theirs, sides.ours, HOST, path)
        assert [each.headers.get("cache-control") for each in seen] == [expected] * 2
    assets.script = lambda exchange: exchange.close()
    try:
        theirs, ours = both(sides.theirs, sides.ours, HOST, "/static/b.txt")
    finally:
        assets.script = assets.default
    assert (theirs.status, ours.status) == (502, 502)
    assert theirs.headers.get("cache-control") is None
    assert ours.headers.get("cache-control") == "no-store"


@pytest.mark.parametrize("path", ["/static", "/ws", "/admin", "/internal", "/private?a=b"])
def test_a_location_has_a_place_without_its_slash(sides: Sides, path: str) -> None:
    theirs, ours = both(sides.theirs, sides.ours, HOST, path)
    assert (ours.status, ours.location) == (theirs.status, theirs.location)
    for bare in ("/v1", "/v2?a=b"):
        theirs, ours = both(sides.theirs, sides.ours, API, bare)
        assert (ours.status, ours.location) == (theirs.status, theirs.location)


def test_without_a_hostname_in_the_handshake_it_is_the_first_server(sides: Sides) -> None:
    for side in (sides.theirs, sides.ours):
        for host, status in ((HOST, 200), ("other.test", 301)):
            with side.connect(None) as client:
                got = client.get(host, "/a?b=c")
                assert got.status == status
                if status == 301:
                    assert got.all("location") == [b"https://example.com/a?b=c"]


@pytest.mark.parametrize("origin", [(), ("Origin: https://example.com",)])
def test_methods_are_asked_for_here(sides: Sides, origin: tuple[str, ...]) -> None:
    fields = (*origin, "Access-Control-Request-Method: PUT") if origin else ()
    for side in (sides.theirs, sides.ours):
        seen = side.ask(API, "/v2/x", *fields, method="OPTIONS")
        assert (seen.status, seen.asked) == (204, None)


def test_a_request_is_sent_back_by_neither(sides: Sides) -> None:
    for side in (sides.theirs, sides.ours):
        assert side.ask(HOST, "/x", method="TRACE").status == 405


def test_a_mirror_gets_a_copy(sides: Sides) -> None:
    shadow = sides.backends.by_port[9112]
    for side, target in ((sides.theirs, b"/v1/items?a=b"), (sides.ours, b"/items?a=b")):
        shadow.reset()
        assert side.ask(API, "/v1/items?a=b", method="POST", body=b"body").status == 200
        shadow.wait_for_requests(1)
        shadow.wait_until(lambda: shadow.last.body == b"body", "the body has come as well")
        assert [each.target for each in shadow.requests] == [target]
    assert is_told("a copy is of what the backend gets", "nginx.md")


def test_what_is_limited_for_a_server_is_for_each_of_its_locations() -> None:
    """Whatever answers there. nginx holds up what comes early, so that no request shows it."""
    pair = pki.make(HOST)
    named = {"htpasswd": HTPASSWD.encode(), "example.pem": pair.key + pair.chain}
    files = [("nginx.yaml", (PORTING / "nginx.yaml").read_bytes())]
    state, diagnostics = load_directory(files, named.__getitem__)
    assert state is not None, diagnostics
    frontends = [state[key].typed(Frontend) for key in state if key.kind == "frontend"]
    of_server = [each for each in frontends if each.names == (API,)]
    assert len(of_server) > 5
    assert all("api-limit" in each.policies for each in of_server)
    assert all("few-at-once" in each.policies for each in of_server if each.cluster)


def test_a_login_is_asked_for_a_few_times_only(sides: Sides) -> None:
    for side in (sides.theirs, sides.ours):
        statuses = [side.ask(HOST, "/login").status for _ in range(9)]
        # One of the tests before has used one up.
        assert statuses.index(429) in (5, 6), statuses
        assert set(statuses[statuses.index(429) :]) == {429}


DIFFERENT = {
    "nginx takes back what the server adds where a location adds something itself": (
        (HOST, "/static/a/b.txt", ()),
        lambda seen: seen.headers.get("x-frame-options"),
        (None, "DENY"),
    ),
    "regex locations go before longer prefixes: images of /static are asked for as they are": (
        (HOST, "/static/a.png", ()),
        lambda seen: seen.asked and seen.asked["target"],
        ("/static/a.png", "/a.png"),
    ),
    "and images of /admin without a password and from anywhere": (
        (HOST, "/admin/a.png", ()),
        lambda seen: seen.asked and seen.asked["backend"],
        ("assets", None),
    ),
    "what a client says of itself is passed on": (
        (HOST, "/", ("X-Forwarded-For: 6.6.6.6",)),
        lambda seen: seen.asked and seen.asked["headers"]["x-forwarded-for"],
        ("6.6.6.6, 127.0.0.1", "127.0.0.1"),
    ),
    "one header that a location sets takes all others of the server away": (
        (API, "/v1/items", ()),
        lambda seen: seen.asked and sorted(seen.asked["headers"]),
        (
            ["host", "x-api-version"],
            ["host", "x-api-version", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"],
        ),
    ),
    "and the same in every location that sets one for itself": (
        (HOST, "/ws/room", ()),
        lambda seen: seen.asked and seen.asked["headers"]["host"],
        ("chat", "example.com"),
    ),
    "also where that is the name of who is signed in": (
        (HOST, "/private/x", (SIGNED_IN,)),
        lambda seen: seen.asked and {**seen.asked["headers"], "x-real-ip": None},
        (
            {"host": "app", "x-user": "ann", "cookie": "session=ok", "x-real-ip": None},
            {
                "host": HOST,
                "x-user": "ann",
                "cookie": "session=ok",
                "x-forwarded-for": "127.0.0.1",
                "x-forwarded-proto": "https",
                "x-real-ip": None,
            },
        ),
    ),
    "what is forwarded is the path that was matched": (
        (HOST, "/a/../b//c", ()),
        lambda seen: seen.asked and seen.asked["target"],
        ("/a/../b//c", "/b/c"),
    ),
    "answers of the proxy itself are not kept": (
        (HOST, "/healthz", ()),
        lambda seen: seen.headers.get("cache-control"),
        (None, "no-store"),
    ),
    "a page of another origin may ask whoever it is": (
        (API, "/v2/items", ("Origin: https://evil.test",)),
        lambda seen: seen.headers.get("access-control-allow-origin"),
        ("https://example.com", None),
    ),
    "who is not signed in goes to the login": (
        (HOST, "/private/x", ()),
        lambda seen: seen.status,
        (302, 401),
    ),
    "a path with `%2F` is decoded before nginx looks for its location": (
        (API, "/v1/x%2fy", ()),
        lambda seen: seen.asked and seen.asked["target"],
        ("/x/y", "/x%2Fy"),
    ),
    "the answer of a server that was asked reaches the client with all its fields": (
        (HOST, "/private/x", ()),
        lambda seen: seen.headers.get("x-user"),
        (None, "ann"),
    ),
    "bots are kept from each path": (
        (HOST, "/upload/x", (BOT,)),
        lambda seen: seen.status,
        (403, 200),
    ),
}


@pytest.mark.parametrize("why", DIFFERENT)
def test_both_differ(sides: Sides, why: str) -> None:
    (host, path, fields), what, expected = DIFFERENT[why]
    seen = both(sides.theirs, sides.ours, host, path, *fields)
    assert tuple(map(what, seen)) == expected
    assert is_told(why, "nginx.md")


def test_every_directive_is_told_of() -> None:
    """The document names each that stands in the original, ported or not."""
    text = re.sub(r"#.*|'[^']*'|\"[^\"]*\"", "", (PORTING / "nginx.conf").read_text())
    text = re.sub(r"map [^{]*\{[^}]*\}", "map;", re.sub(r"geo [^{]*\{[^}]*\}", "geo;", text))
    text = re.sub(r"split_clients\s*\S*\s*\{[^}]*\}", "split_clients;", text)
    directives = set(re.findall(r"(?:^|[;{}])\s*([a-z_]+)(?=[ ;{])", text))
    document = (PORTING / "nginx.md").read_text()
    missing = {each for each in directives if f"`{each}" not in document}
    assert not missing
