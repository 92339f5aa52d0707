"""The load balancer of docs/porting/haproxy.cfg through HAProxy and through Kakehi.

Where both differ, docs/porting/haproxy.md says why; the tests have it by both answers.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.ports.side_by_side import PORTING, Backends, Front, Seen, both, is_told, ported
from tests.harness import pki, ports, processes
from tests.harness.pki import Pair

EXECUTABLE = shutil.which("haproxy") or "/usr/sbin/haproxy"
GROUPS = {
    9201: "app",
    9202: "app",
    9203: "app",
    9204: "api",
    9205: "static",
    9206: "ws",
    9207: "ws",
}
HOST, WWW, BLOG = "shop.example.org", "www.shop.example.org", "blog.example.org"
CI = "Authorization: Basic Y2k6c2VjcmV0"  # ci:secret
BOT = "User-Agent: sqlmap/1.7"


class Sides:
    """Both, in front of the same backends."""

    def __init__(self, directory: Path) -> None:
        self.backends = Backends(GROUPS)
        authority = pki.make("Kakehi test authority", is_ca=True)
        pair = pki.make(HOST, WWW, BLOG, issuer=authority)
        self.theirs, self.ours = Front(authority), Front(authority)
        self.daemon = ported("haproxy", self.ours, self.backends, pair, directory / "ours")
        self.daemon.start()
        place = directory / "theirs"
        place.mkdir()
        configuration = place / "haproxy.cfg"
        configuration.write_text(original(self.theirs, self.backends, pair, authority, place))
        with (place / "output").open("wb") as output:
            self.haproxy = subprocess.Popen(
                [EXECUTABLE, "-db", "-f", str(configuration)], stdout=output, stderr=output
            )
        try:
            processes.wait_until(lambda: _listens(self.theirs.https), "haproxy listens", 10)
        except AssertionError:
            self.stop()
            raise AssertionError((place / "output").read_text()) from None

    def stop(self) -> None:
        self.daemon.stop()
        self.haproxy.send_signal(signal.SIGTERM)
        self.haproxy.wait(10)
        self.backends.stop()


def _listens(address: str) -> bool:
    try:
        socket.create_connection(ports.split(address), timeout=1).close()
    except OSError:
        return False
    return True


def original(front: Front, backends: Backends, pair: Pair, authority: Pair, place: Path) -> str:
    """The original with addresses and paths of this test."""
    (place / "certs").mkdir()
    (place / "certs" / "shop.pem").write_bytes(pair.chain + pair.key)
    (place / "ca.pem").write_bytes(authority.pem)
    (place / "hosts.map").write_text(f"{BLOG} static\n")
    (place / "503.http").write_text("HTTP/1.0 503 Service Unavailable\r\n\r\n")
    (place / "maintenance.html").write_text("<h1>Back soon</h1>\n")
    text = backends.placed((PORTING / "haproxy.cfg").read_text())
    text = text.replace("server self 127.0.0.1:443", f"server self {front.https}")
    for port, address in {"80": front.http, "443": front.https, "9443": front.sni}.items():
        text = text.replace(f"bind :{port}\n", f"bind {address}\n")
        text = text.replace(f"bind :{port} ", f"bind {address} ")
    others = r"bind (?:127[.]0[.]0[.]1)?:(?:25|8404|8443)(?=\s)"
    text = re.sub(others, lambda _: f"bind {ports.address()}", text)
    for written, there in {
        "/etc/haproxy/certs/": f"{place}/certs/",
        "/etc/haproxy/ca.pem": f"{place}/ca.pem",
        "/etc/haproxy/internal-ca.pem": f"{place}/ca.pem",
        "/etc/haproxy/hosts.map": f"{place}/hosts.map",
        "/etc/haproxy/errors/503.http": f"{place}/503.http",
        "/etc/haproxy/maintenance.html": f"{place}/maintenance.html",
        "/run/haproxy/admin.sock": f"{place}/admin.sock",
        "maxconn 20000": "maxconn 200",
        "maxconn 10000": "maxconn 100",
    }.items():
        assert written in text, written
        text = text.replace(written, there)
    text = re.sub(r"user ci password .*", "user ci insecure-password secret", text)
    # There is no name server here; that of the original finds one address.
    found = backends.by_port[9204].address
    return re.sub(r"server-template api .*", f"server api {found} check", text)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    made = Sides(tmp_path_factory.mktemp("haproxy"))
    yield made
    made.stop()


def comparable(seen: Seen) -> Seen:
    """Without what is told of below: who asks, in both directions."""
    headers, asked = dict(seen.headers), seen.asked
    if asked is None:
        for name in ("cache-control", "strict-transport-security"):
            headers.pop(name, None)
    if asked is not None:
        fields = {k: v for k, v in asked["headers"].items() if k != "x-forwarded-for"}
        asked = {**asked, "headers": fields}
    return replace(seen, headers=headers, asked=asked)


# One of each frontend that a path decides on.
PATHS = ("/", "/ping", "/admin/x", "/admin/a.css", "/api/x", "/api/a.css", "/legacy/x", "/a.css")
WEBSOCKET = "Upgrade: websocket"
SAME = [
    (HOST, "/", (), "GET"),
    (HOST, "/search?q=a", (), "GET"),
    (HOST, "/admin/x", (), "GET"),
    (HOST, "/api/items", (CI,), "GET"),
    (HOST, "/api/items", (CI,), "POST"),
    (HOST, "/api/items", (), "GET"),
    (HOST, "/api/items", (), "DELETE"),
    (HOST, "/api/a.png", (CI,), "GET"),
    (HOST, "/a/site.css", (), "GET"),
    (HOST, "/legacy/a/b?c=d", (), "GET"),
    (HOST, "/", ("X-SSL-Client-DN: CN=root",), "GET"),
    (HOST, "/api/items", (), "HEAD"),
    (HOST, "/api/items", (CI,), "HEAD"),
    (HOST, "/api/items", (), "PUT"),
    (HOST, "/api", (), "GET"),
    (HOST, "/admin/a.css", (), "GET"),
    (HOST, "/administrator", (), "GET"),
    (HOST, "/legacy", (), "GET"),
    (HOST, "/legacy/x.css", (), "GET"),
    (HOST, "/legacy/api/x", (), "GET"),
    (HOST, "/legacy/api/x", (CI,), "GET"),
    (HOST, "/legacy/ping", (), "GET"),
    (HOST, "/ping", (), "GET"),
    (HOST, "/chat", (WEBSOCKET,), "GET"),
    *((HOST, path, (BOT,), "GET") for path in PATHS),
    (BLOG, "/", (), "GET"),
    (BLOG, "/api/x", (), "GET"),
    (BLOG, "/api/x", (CI,), "GET"),
    (BLOG, "/api/x", (), "DELETE"),
    (BLOG, "/admin/x", (), "GET"),
    (BLOG, "/ping", (), "GET"),
    (BLOG, "/legacy/a/b", (), "GET"),
    (BLOG, "/legacy/a.js", (), "GET"),
    *((BLOG, path, (BOT,), "GET") for path in PATHS),
    (WWW, "/a/b?c=d", (), "GET"),
    (WWW, "/ping", (), "GET"),
]


@pytest.mark.parametrize(("host", "path", "fields", "method"), SAME)
def test_both_do_the_same(
    sides: Sides, host: str, path: str, fields: tuple[str, ...], method: str
) -> None:
    theirs, ours = (
        side.ask(host, path, *fields, method=method) for side in (sides.theirs, sides.ours)
    )
    assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize(("host", "path", "fields", "method"), SAME)
def test_both_do_the_same_where_tls_is_told_apart(
    sides: Sides, host: str, path: str, fields: tuple[str, ...], method: str
) -> None:
    theirs, ours = (
        side.ask(host, path, *fields, method=method, at=side.sni)
        for side in (sides.theirs, sides.ours)
    )
    assert comparable(ours) == comparable(theirs)


def test_both_compress_what_is_static(sides: Sides) -> None:
    for path, expected in [("/large.css", b"gzip"), ("/large", None)]:
        for side in (sides.theirs, sides.ours):
            with side.connect(HOST) as client:
                got = client.get(HOST, path, "Accept-Encoding: gzip")
                assert got.get("content-encoding") == expected, (path, side is sides.ours)


def test_without_a_hostname_in_the_handshake_there_is_a_certificate(sides: Sides) -> None:
    for side in (sides.theirs, sides.ours):
        with side.connect(None) as client:
            assert client.get(HOST, "/").status == 200


@pytest.mark.parametrize("host", [HOST, WWW, "other.test"])
@pytest.mark.parametrize("path", ["/", "/a?b=c"])
def test_in_clear_text_all_are_sent_to_tls(sides: Sides, host: str, path: str) -> None:
    theirs, ours = (side.ask(host, path, secure=False) for side in (sides.theirs, sides.ours))
    assert comparable(ours) == comparable(theirs)


def test_a_request_is_sent_back_by_nobody_of_ours(sides: Sides) -> None:
    asked = [side.ask(HOST, "/x", method="TRACE").status for side in (sides.theirs, sides.ours)]
    assert asked == [200, 405]
    assert is_told("TRACE is passed on by HAProxy", "haproxy.md")


def test_another_hostname_is_known_to_one_of_them(sides: Sides) -> None:
    for side, expected in ((sides.theirs, 200), (sides.ours, 404)):
        with side.connect(HOST) as client:
            assert client.get("other.test", "/").status == expected
    assert is_told("another hostname gets what there is", "haproxy.md")


DIFFERENT = {
    "nobody on the machine itself is told of as a client": (
        (HOST, "/", ()),
        lambda seen: seen.asked and seen.asked["headers"].get("x-forwarded-for"),
        (None, "127.0.0.1"),
    ),
    "a path goes before headers and cookies": (
        (HOST, "/api/x", (CI, WEBSOCKET)),
        lambda seen: seen.asked and seen.asked["backend"],
        ("ws", "api"),
    ),
    "rules for responses are for those of backends": (
        (HOST, "/ping", ()),
        lambda seen: seen.headers.get("strict-transport-security"),
        (None, "max-age=63072000"),
    ),
}


@pytest.mark.parametrize("why", DIFFERENT)
def test_both_differ(sides: Sides, why: str) -> None:
    (host, path, fields), what, expected = DIFFERENT[why]
    seen = both(sides.theirs, sides.ours, host, path, *fields)
    assert tuple(map(what, seen)) == expected
    assert is_told(why, "haproxy.md")


def test_every_keyword_is_told_of() -> None:
    """The document names each that stands in the original, ported or not."""
    document = (PORTING / "haproxy.md").read_text()
    lines = [line.split() for line in (PORTING / "haproxy.cfg").read_text().splitlines()]
    keywords = {
        " ".join(words[:2]) if words[0] in ("http-request", "http-response", "option") else words[0]
        for words in lines
        if words and not words[0].startswith("#")
    }
    assert not {each for each in keywords if f"`{each}" not in document}
