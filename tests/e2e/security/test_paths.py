"""T20: the path that is matched is the path that is forwarded, however it is spelled."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import ports, rawclient, wire
from tests.harness.gateway import Gateway
from tests.harness.rawbackend import RawBackend

# prefix → the cluster's name; "/" takes what no other does.
PREFIXES = {"/": "rest", "/public": "public", "/admin": "admin", "/public/deep": "deep"}


@dataclass
class Site:
    """A listener where each prefix has a backend of its own, that answers with its name."""

    gateway: Gateway
    backends: dict[str, RawBackend]

    def ask(self, client: rawclient.Connection, target: str) -> tuple[int, str, bytes]:
        """Ask for a target; return status, who answered, and the target it was sent."""
        response = client.get("paths.test", target)
        name = response.body.decode() if response.status == 200 else ""
        sent = self.backends[name].requests[-1].target if name else b""
        return response.status, name, sent


@pytest.fixture(scope="module")
def site(shared_gateway: Gateway) -> Iterator[Site]:
    backends = {}
    for name in PREFIXES.values():
        data = wire.response(name.encode())
        backends[name] = RawBackend(lambda exchange, data=data: exchange.send(data))
    shared_gateway.extend(
        listeners={"paths": {"address": ports.address()}},
        clusters={
            f"paths-{name}": {"backends": {"raw": {"address": backend.address}}}
            for name, backend in backends.items()
        },
        frontends={
            f"paths-{name}": {
                "listeners": ["paths"],
                "path": {"prefix": prefix},
                "cluster": f"paths-{name}",
            }
            for prefix, name in PREFIXES.items()
        },
    )
    yield Site(shared_gateway, backends)
    for backend in backends.values():
        backend.stop()


def prefix_owner(path: str) -> str:
    """Which cluster a path belongs to, by whole elements, the longest prefix first."""
    for prefix in sorted(PREFIXES, key=len, reverse=True):
        if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
            return PREFIXES[prefix]
    raise AssertionError(path)


def as_a_backend_reads_it(path: str) -> str:
    """Decode once, take backslashes for slashes, cut parameters, resolve dots, merge slashes."""
    decoded = urllib.parse.unquote(path, encoding="latin-1").replace("\\", "/")
    elements: list[str] = []
    for element in decoded.split("/"):
        name = element.partition(";")[0]
        if name == "..":
            if elements:
                elements.pop()
        elif name not in ("", "."):
            elements.append(element)
    return "/" + "/".join(elements)


def check(site: Site, client: rawclient.Connection, target: str) -> int:
    """The property: refused, or sent to the owner of exactly what was sent."""
    status, name, sent = site.ask(client, target)
    if status == 400:
        return status
    assert status == 200, status
    path = sent.decode().partition("?")[0]
    assert prefix_owner(path) == name, f"{target!r} was sent as {path!r} to {name}"
    segments = re.split(r"/|\\|%2f|%5c", path, flags=re.IGNORECASE)
    for segment in segments:
        plain = re.sub(r"%2e", ".", segment, flags=re.IGNORECASE).partition(";")[0]
        assert plain not in (".", ".."), f"{target!r} was sent with dots left: {path!r}"
    assert "//" not in path, f"{target!r} was sent with empty elements: {path!r}"
    assert "%00" not in path
    assert not re.search(r"%(?![0-9A-F]{2})", path), f"{target!r} was sent with half an escape"
    return status


@pytest.mark.parametrize(
    ("target", "name", "sent"),
    [
        ("/public/../admin", "admin", b"/admin"),
        ("/public/%2e%2e/admin", "admin", b"/admin"),
        ("/public/%2E%2e/admin", "admin", b"/admin"),
        ("/public/.%2e/admin", "admin", b"/admin"),
        ("/public/./x", "public", b"/public/x"),
        ("/public/%2e/x", "public", b"/public/x"),
        ("//admin", "admin", b"/admin"),
        ("/public//deep/x", "deep", b"/public/deep/x"),
        ("///", "rest", b"/"),
        ("/%61dmin", "admin", b"/admin"),
        ("/admi%6e/x", "admin", b"/admin/x"),
        ("/public/deep/../../admin/", "admin", b"/admin/"),
        ("/public/..", "rest", b"/"),
        ("/admin/?x=/../public", "admin", b"/admin/?x=/../public"),
        ("/ADMIN", "rest", b"/ADMIN"),
        ("/admin.", "rest", b"/admin."),
        ("/admin%20", "rest", b"/admin%20"),
        ("/%2541dmin", "rest", b"/%2541dmin"),
        ("/public/%252e%252e/admin", "public", b"/public/%252e%252e/admin"),
        ("/%", "rest", b"/%25"),
        ("/public/100%", "public", b"/public/100%25"),
        ("/%4", "rest", b"/%254"),
        ("/%zz", "rest", b"/%25zz"),
        # Nobody behind us may read "a" in it, or dots (T20).
        ("/%u0061dmin", "rest", b"/%25u0061dmin"),
        ("/public/%u002e%u002e/admin", "public", b"/public/%25u002e%25u002e/admin"),
        ("/%%61dmin", "rest", b"/%25admin"),
        ("/public/%%32e%%32e/admin", "public", b"/public/%252e%252e/admin"),
        ("/public/...", "public", b"/public/..."),
        ("/public/..a", "public", b"/public/..a"),
    ],
)
def test_t20_one_normal_form_is_matched_and_forwarded(
    site: Site, gateway: Gateway, target: str, name: str, sent: bytes
) -> None:
    client = gateway.connect("paths")
    status, answered, forwarded = site.ask(client, target)
    if status == 400:
        # Refusing what is not normal is safe as well, but what is normal must be served.
        assert re.search(r"\.\.|%2e|//|%6|\./", target, re.IGNORECASE)
    else:
        assert (status, answered, forwarded) == (200, name, sent)


@pytest.mark.parametrize(
    "target",
    [
        "/..",
        "/../admin",
        "/public/../../admin",
        "/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public/..%2Fadmin",
        "/public%2f..%2fadmin",
        "/public/..%5cadmin",
        "/public/..\\admin",
        "/public/..;/admin",
        "/public/..;x=y/admin",
        "/public/%2e%2e;/admin",
        "/admin%00",
        "/public/%00/../admin",
        "/public/%c0%ae%c0%ae/admin",
        "/public/%c0%af../admin",
        "/public/%e0%80%ae%e0%80%ae/admin",
        "/public/%f0%80%80%ae/admin",
    ],
)
def test_t20_what_two_readers_would_take_for_two_paths_is_refused(
    site: Site, gateway: Gateway, target: str
) -> None:
    client = gateway.connect("paths")
    before = {name: len(backend.requests) for name, backend in site.backends.items()}
    status, name, sent = site.ask(client, target)
    assert status == 400, f"sent as {sent!r} to {name}"
    client.expect_closed()
    assert before == {name: len(backend.requests) for name, backend in site.backends.items()}


_ELEMENTS = st.sampled_from(
    ["public", "deep", "admin", "", ".", "..", "%2e", "%2E%2e", ".%2e", "x", "%2f", "%5c", "%5C.."]
    + ["..%2f", "%2F..", ";", "..;", ";a=b", "admin;x", "%61dmin", "ADMIN", "%25", "%252e", "..."]
    + ["%", "%%", "%2", "%%32e", "%u002e", "100%", "..%", "%..", "%%2e"]
    + ["public%2fdeep", "%c3%a9", "%20", "a.b", "~", "%7e", "publi%63", "%00", "%c0%ae", "+", ":"]
)


@given(
    target=st.lists(_ELEMENTS, min_size=1, max_size=7).map(lambda parts: "/" + "/".join(parts)),
    query=st.sampled_from(["", "?", "?a=/../admin", "?x=%2e%2e/"]),
)
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_t20_property_the_string_that_matched_is_the_string_that_is_sent(
    site: Site, gateway: Gateway, target: str, query: str
) -> None:
    with rawclient.Connection(gateway.addresses["paths"]) as client:
        status = check(site, client, target + query)
        if status == 400:
            # A refusal must have a reason: plain paths are served.
            assert re.search(r"%|\.\.|;", target)


def test_t20_a_backend_that_decodes_once_lands_where_the_match_was(
    site: Site, gateway: Gateway
) -> None:
    """Whatever is forwarded to one prefix stays under it for a backend that decodes and cleans."""
    tricky = [
        "..%2f",
        "%2e%2e%2f",
        "..%5c",
        "%5c..%5c",
        "..;/",
        ";/../",
        "%2f../",
        "./",
        "//",
        "%2e/",
    ]
    for piece in tricky:
        for target in (
            f"/public/{piece}admin",
            f"/public/x{piece}../admin",
            f"/public{piece}admin",
        ):
            with rawclient.Connection(gateway.addresses["paths"]) as client:
                status, name, sent = site.ask(client, target)
            if status == 200 and name in ("public", "deep"):
                seen = as_a_backend_reads_it(sent.decode())
                assert prefix_owner(seen) in ("public", "deep"), (target, sent, seen)
