"""Requests in every form that clients have, through nginx and HAProxy and through Kakehi.

Paths by case, with escapes, empty segments and dots; hosts with ports and final dots; the absolute
form; HTTP/1.0; `Expect`; large cookies; ranges and conditions. Where both differ, the documents of
`docs/porting` say why, and the test has it by both answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.e2e.ports import test_haproxy, test_nginx
from tests.e2e.ports.side_by_side import Front, is_told
from tests.harness.rawbackend import Exchange

SITE, SHOP = test_nginx.HOST, test_haproxy.HOST
Sides = test_nginx.Sides | test_haproxy.Sides


class Form(NamedTuple):
    """A request as it is written; without a host it has no such line."""

    line: str
    host: str | None = None
    fields: tuple[str, ...] = ()
    body: bytes = b""
    secure: bool = True

    def written(self) -> bytes:
        lines = [
            self.line,
            *([f"Host: {self.host}"] if self.host is not None else []),
            *self.fields,
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class Told(NamedTuple):
    """What came of it."""

    status: int
    location: str | None = None
    asked: tuple[str, str, str, str | None] | None = None
    """Of which backend, by what method and for what, at what host."""


def told(side: Front, form: Form, name: str) -> Told:
    """The name is that of the handshake, which a host in the request need not be."""
    with side.connect(name, secure=form.secure) as client:
        client.send(form.written())
        response = client.read_any(form.line.partition(" ")[0])
    location, asked = response.get("location"), None
    if response.get("content-type") == b"application/x-asked" and response.body:
        said = json.loads(response.body)
        asked = (said["backend"], said["method"], said["target"], said["headers"].get("host"))
    # Both stand at another port than they would.
    place = None if location is None else re.sub(r":\d+(?=/|$)", "", location.decode())
    return Told(response.status, place, asked)


def get(*paths: str, host: str, secure: bool = True) -> list[Form]:
    return [Form(f"GET {path} HTTP/1.1", host, secure=secure) for path in paths]


def alike(host: str) -> list[Form]:
    """Forms of which both make the same, with either product."""
    return [
        *get("/x?", "/x??a", "/x?a=b?c", "/ping/", "/healthz?", host=host),
        Form("GET /x HTTP/1.0", host),
        Form("GET /x HTTP/1.0", host, ("Connection: keep-alive",)),
        Form("POST /x HTTP/1.0", host),
        Form("GET /x HTTP/1.1", host, ("Connection: close",)),
        Form("GET /x HTTP/1.1", host, ("Content-Length: 2",), b"ab"),
        Form("DELETE /x HTTP/1.1", host, ("Content-Length: 2",), b"ab"),
        Form("FOO /x HTTP/1.1", host),
        Form("PATCH /x HTTP/1.1", host, ("Content-Length: 0",)),
        Form("HEAD / HTTP/1.1", host),
        Form("OPTIONS / HTTP/1.1", host),
        Form("GET /large HTTP/1.1", host, ('If-None-Match: "a"',)),
        Form("GET /large HTTP/1.1", host, ("Range: bytes=0-3",)),
        Form("GET /x HTTP/1.1", host, (f"Cookie: a={'b' * 7000}",)),
        Form(f"GET /{'a' * 5000} HTTP/1.1", host),
    ]


NGINX_SAME = [
    *alike(SITE),
    *get("/STATIC/a", "/Healthz", "/healthz/", "//healthz", "/login/", host=SITE),
    *get("/old/a?b=c", "/old/a%20b", "/old//a", "/old/%C3%A9", "/old/a;b", "/old", host=SITE),
    *get("/p/42?", "/p/42//", "/P/42", "/p/%34%32", "/ws?x", "/a.PNG?x", "/a.png/", host=SITE),
    *get("/a%00b", "/../x", "*", host=SITE),
    *[Form(f"HEAD {path} HTTP/1.1", SITE) for path in ("/healthz", "/old/a", "/upload/x")],
    *[Form(f"OPTIONS {path} HTTP/1.1", SITE) for path in ("/healthz", "/old/a")],
    *get("/x", host=f"{SITE}."),
    *get("/x", host=SITE.upper()),
    *get("/x", host=f"{SITE}:"),
    *get("/x", host=f" {SITE}"),
    *get("/x", host=""),
    *get("/x", host="a b"),
    *get("/x", host=f"{SITE}/x"),
    Form("GET /x HTTP/1.1", SITE, (f"Host: {SITE}",)),
    Form(f"GET http://{SITE}/x HTTP/1.1", SITE),
    Form(f"GET HTTPS://{SITE.upper()}/x HTTP/1.1", SITE),
    Form(f"GET https://{SITE} HTTP/1.1", SITE),
    Form(f"GET https://{SITE}?a HTTP/1.1", SITE),
    Form(f"GET https://u@{SITE}/x HTTP/1.1", SITE),
    Form("GET /x HTTP/1.0"),
    Form("GET /x HTTP/1.1"),
    Form("POST /x HTTP/1.0", SITE, ("Transfer-Encoding: chunked",), b"0\r\n\r\n"),
    Form("GET /x HTTP/2.0", SITE),
    Form("get /x HTTP/1.1", SITE),
    *(
        form
        for host in (SITE, "EXAMPLE.com", f"{SITE}:80", f"{SITE}.")
        for form in get("/", "/a?", "/a%20b", "/a?b=c", host=host, secure=False)
    ),
    *get("/.well-known/acme-challenge", host=SITE, secure=False),
    *(
        form
        for host in (test_nginx.WWW, "WWW.example.com", f"{test_nginx.WWW}:443")
        for form in get("/", "/a?", "/a?b=c", "/a%20b", host=host)
    ),
]
HAPROXY_SAME = [
    *alike(SHOP),
    *get("/PING", "/ping?a", "/api", "/API/x", "/a.css?", "/a.CSS", "/a.css/", host=SHOP),
    *get("/legacy/", "/legacy/?x", "/LEGACY/x", "/legacy/a%2Fb", host=SHOP),
    *get("/admin", "/admin/", "/Admin/x", "/admin%2Fx", host=SHOP),
    *[Form(f"HEAD {path} HTTP/1.1", SHOP) for path in ("/ping", "/a.css")],
    *[Form(f"OPTIONS {path} HTTP/1.1", SHOP) for path in ("/ping", "*", "/api/x")],
    *get("/x", host=f"{SHOP}:443"),
    *get("/x", host=f" {SHOP}"),
    Form("GET /x#y HTTP/1.1", SHOP),
    Form(f"GET /{'a' * 9000} HTTP/1.1", SHOP),
    Form("GET /x HTTP/1.1", SHOP, (f"Cookie: a={'b' * 9000}",)),
    *(
        form
        for host in (SHOP, f"{SHOP}:80", "other.test")
        for form in get("/", "/a?", "/a%20b", "/a?b=c", host=host, secure=False)
    ),
    *(
        form
        for host in (test_haproxy.WWW, "WWW.shop.example.org")
        for form in get("/", "/a?", "/a?b=c", "/a%20b", host=host)
    ),
]
APP = ("app", "GET")
NGINX_DIFFERENT: dict[str, tuple[Form, Told, Told]] = {
    "the port of `Host` reaches the backend": (
        Form("GET /x HTTP/1.1", f"{SITE}:8443"),
        Told(200, None, (*APP, "/x", SITE)),
        Told(200, None, (*APP, "/x", f"{SITE}:8443")),
    ),
    "a target with a fragment is refused": (
        Form("GET /old/a?b#c HTTP/1.1", SITE),
        Told(301, f"https://{SITE}/new/a?b"),
        Told(400),
    ),
    "an empty query is a query": (
        Form("GET /old/a? HTTP/1.1", SITE),
        Told(301, f"https://{SITE}/new/a"),
        Told(301, f"https://{SITE}/new/a?"),
    ),
    "what a path has in escapes stays in them where it is sent elsewhere": (
        Form("GET /old/a%3Fb HTTP/1.1", SITE),
        Told(301, f"https://{SITE}/new/a?b"),
        Told(301, f"https://{SITE}/new/a%3Fb"),
    ),
    "a path that servers read in two ways is refused": (
        Form("GET /old/..%2fx HTTP/1.1", SITE),
        Told(200, None, (*APP, "/old/..%2fx", SITE)),
        Told(400),
    ),
    "a `%` that begins no escape is escaped": (
        Form("GET /x%zz HTTP/1.1", SITE),
        Told(400),
        Told(200, None, (*APP, "/x%25zz", SITE)),
    ),
    "as is what no path has as it is": (
        Form('GET /x"|y HTTP/1.1', SITE),
        Told(200, None, (*APP, '/x"|y', SITE)),
        Told(200, None, (*APP, "/x%22%7Cy", SITE)),
    ),
    "`OPTIONS *` goes to the backend": (
        Form("OPTIONS * HTTP/1.1", SITE),
        Told(400),
        Told(200, None, ("app", "OPTIONS", "*", SITE)),
    ),
    "a target with a host of its own has to be that of `Host`": (
        Form(f"GET https://{SITE}/x HTTP/1.1", "other.test"),
        Told(200, None, (*APP, "/x", SITE)),
        Told(400),
    ),
    "a host that is none is refused": (
        Form("GET /x HTTP/1.1", f"{SITE},b"),
        Told(301, f"https://{SITE}/x"),
        Told(400),
    ),
    "a head may have 32 KiB, however they are parted": (
        Form("GET /x HTTP/1.1", SITE, (f"Cookie: a={'b' * 9000}",)),
        Told(400),
        Told(200, None, (*APP, "/x", SITE)),
    ),
    "and a hundred fields": (
        Form("GET /x HTTP/1.1", SITE, tuple(f"X-{i}: b" for i in range(120))),
        Told(200, None, (*APP, "/x", SITE)),
        Told(431),
    ),
    "what is asked for is sent on in its normal form": (
        Form("GET //a/../b HTTP/1.1", SITE, secure=False),
        Told(301, f"https://{SITE}//a/../b"),
        Told(301, f"https://{SITE}/b"),
    ),
    "an expectation that nobody knows is refused": (
        Form("POST /x HTTP/1.1", SITE, ("Content-Length: 2", "Expect: foo"), b"ab"),
        Told(200, None, ("app", "POST", "/x", SITE)),
        Told(417),
    ),
}
HAPROXY_DIFFERENT: dict[str, tuple[Form, Told, Told]] = {
    "an escape that need not be one is none": (
        Form("GET /%70ing HTTP/1.1", SHOP),
        Told(200, None, (*APP, "/%70ing", SHOP)),
        Told(200),
    ),
    "so that no rule is passed by writing a path otherwise": (
        Form("GET /%61pi/x HTTP/1.1", SHOP),
        Told(200, None, (*APP, "/%61pi/x", SHOP)),
        Told(401),
    ),
    "and a path that servers read in two ways is refused": (
        Form("GET /api%2Fx HTTP/1.1", SHOP),
        Told(200, None, (*APP, "/api%2Fx", SHOP)),
        Told(400),
    ),
    "as is one that leads out of all": (
        Form("GET /../x HTTP/1.1", SHOP),
        Told(200, None, (*APP, "/../x", SHOP)),
        Told(400),
    ),
    "empty segments and dots are gone before anything is compared": (
        Form("GET /legacy//a/./b HTTP/1.1", SHOP),
        Told(200, None, (*APP, "//a/./b", SHOP)),
        Told(200, None, (*APP, "/a/b", SHOP)),
    ),
    "a hostname is one whatever its case": (
        Form("GET /x HTTP/1.1", SHOP.upper()),
        Told(200, None, (*APP, "/x", SHOP.upper())),
        Told(200, None, (*APP, "/x", SHOP)),
    ),
    "with a final dot": (
        Form("GET /a?b=c HTTP/1.1", f"{test_haproxy.WWW}."),
        Told(200, None, (*APP, "/a?b=c", f"{test_haproxy.WWW}.")),
        Told(301, f"https://{SHOP}/a?b=c"),
    ),
    "or with a port": (
        Form("GET /a?b=c HTTP/1.1", f"{test_haproxy.WWW}:443"),
        Told(200, None, (*APP, "/a?b=c", f"{test_haproxy.WWW}:443")),
        Told(301, f"https://{SHOP}/a?b=c"),
    ),
    "what is no hostname is refused": (
        Form("GET /x HTTP/1.1", f"{SHOP}@x"),
        Told(200, None, (*APP, "/x", f"{SHOP}@x")),
        Told(400),
    ),
    "and so are two": (
        Form("GET /x HTTP/1.1", SHOP, (f"Host: {SHOP}",)),
        Told(200, None, (*APP, "/x", SHOP)),
        Told(400),
    ),
    "none is refused as well": (
        Form("GET /x HTTP/1.1"),
        Told(200, None, (*APP, "/x", None)),
        Told(400),
    ),
    "a target in the absolute form reaches the backend without its host": (
        Form(f"GET https://{SHOP}/x HTTP/1.1", SHOP),
        Told(200, None, (*APP, f"https://{SHOP}/x", SHOP)),
        Told(200, None, (*APP, "/x", SHOP)),
    ),
    "chunks are of HTTP/1.1": (
        Form("POST /x HTTP/1.0", SHOP, ("Transfer-Encoding: chunked",), b"0\r\n\r\n"),
        Told(200, None, ("app", "POST", "/x", SHOP)),
        Told(400),
    ),
    "a version that is none is refused": (
        Form("GET /x HTTP/2.0", SHOP),
        Told(200, None, (*APP, "/x", SHOP)),
        Told(505),
    ),
    "a head may have 32 KiB": (
        Form("GET /x HTTP/1.1", SHOP, (f"Cookie: a={'b' * 20000}",)),
        Told(400),
        Told(200, None, (*APP, "/x", SHOP)),
    ),
}


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    made = test_nginx.Sides(tmp_path_factory.mktemp("nginx"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    made = test_haproxy.Sides(tmp_path_factory.mktemp("haproxy"))
    yield made
    made.stop()


def both(sides: Sides, form: Form) -> tuple[Told, Told]:
    name = SITE if isinstance(sides, test_nginx.Sides) else SHOP
    theirs, ours = (told(side, form, name) for side in (sides.theirs, sides.ours))
    return theirs, ours


@pytest.mark.parametrize("form", NGINX_SAME, ids=str)
def test_nginx_does_the_same(nginx: Sides, form: Form) -> None:
    theirs, ours = both(nginx, form)
    assert ours == theirs


@pytest.mark.parametrize("form", HAPROXY_SAME, ids=str)
def test_haproxy_does_the_same(haproxy: Sides, form: Form) -> None:
    theirs, ours = both(haproxy, form)
    assert ours == theirs


@pytest.mark.parametrize("why", NGINX_DIFFERENT)
def test_nginx_differs(nginx: Sides, why: str) -> None:
    form, theirs, ours = NGINX_DIFFERENT[why]
    assert both(nginx, form) == (theirs, ours)
    assert is_told(why, "nginx.md")


@pytest.mark.parametrize("why", HAPROXY_DIFFERENT)
def test_haproxy_differs(haproxy: Sides, why: str) -> None:
    form, theirs, ours = HAPROXY_DIFFERENT[why]
    assert both(haproxy, form) == (theirs, ours)
    assert is_told(why, "haproxy.md")


def test_who_waits_to_be_told_to_go_on_is_told_by_either(nginx: Sides) -> None:
    """nginx says so itself, and Kakehi where the backend does."""
    head = Form("POST /x HTTP/1.1", SITE, ("Content-Length: 2", "Expect: 100-continue"))
    for port in (9101, 9102, 9103):
        backend = nginx.backends.by_port[port]
        script = backend.default

        def going_on(exchange: Exchange, script: Callable[[Exchange], None] = script) -> None:
            if exchange.request.get("expect") is not None:
                exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            script(exchange)

        backend.script = going_on
    try:
        for side in (nginx.theirs, nginx.ours):
            with side.connect(SITE) as client:
                client.send(head.written())
                assert client.read_any("POST").status == 100
                client.send(b"ab")
                assert client.read_response("POST").status == 200
    finally:
        for port in (9101, 9102, 9103):
            nginx.backends.by_port[port].script = nginx.backends.by_port[port].default
    assert is_told("whether a body is wanted is for the backend to say", "nginx.md")
