"""What browsers and libraries send in a path or query, and what a backend gets of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import ports
from tests.harness.gateway import Gateway, Lane
from tests.harness.rawbackend import RawBackend

# Visible ASCII that RFC 3986 wants escaped, and its escapes.
UNESCAPED = {char: f"%{ord(char):02X}" for char in '"<>\\^`{|}'}


@pytest.mark.parametrize("char", UNESCAPED, ids=[f"{ord(char):02x}" for char in UNESCAPED])
def test_what_browsers_send_unescaped_is_escaped_for_the_backend(lane: Lane, char: str) -> None:
    assert lane.get(f"/a{char}b?c{char}d={char}").status == 200
    escaped = UNESCAPED[char]
    assert lane.backend.last.target == f"/a{escaped}b?c{escaped}d={escaped}".encode()


@pytest.mark.parametrize("form", ["http://{host}/a|b?c|d", "/a|b?c|d"])
def test_the_rule_holds_in_every_form_of_the_target(lane: Lane, form: str) -> None:
    assert lane.get(form.format(host=lane.host)).status == 200
    assert lane.backend.last.target == b"/a%7Cb?c%7Cd"


def test_a_query_keeps_its_escapes(lane: Lane) -> None:
    """It may be signed, and nothing is matched in another spelling of it."""
    target = "/?sum=%7e%2f%u0041%zz%&next=/../x&list[]=1"
    assert lane.get(target).status == 200
    assert lane.backend.last.path == target


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/100%", "/100%25"),
        ("/100%/of?all=100%", "/100%25/of?all=100%"),
        ("/%61/./b/../c%2fd%c3%a9", "/a/c%2Fd%C3%A9"),
        ("/a//b", "/a/b"),
        ("/a\\b", "/a%5Cb"),
    ],
)
def test_one_spelling_of_a_path_is_sent(lane: Lane, target: str, sent: str) -> None:
    assert lane.get(target).status == 200
    assert lane.backend.last.path == sent


@pytest.mark.parametrize("target", ["/a/..\\b", "/..\\b", "/a\\..\\..\\b", "/a#b", "/?a#b"])
def test_what_has_two_readings_stays_refused(lane: Lane, target: str) -> None:
    assert lane.get(target).status == 400
    assert lane.backend.connections == []


# A listener that keeps empty segments.


class Keeping:
    """Two prefixes on a listener with `merge_slashes: false`."""

    def __init__(self, gateway: Gateway, backends: dict[str, RawBackend]) -> None:
        self.gateway, self.backends = gateway, backends

    def ask(self, target: str) -> tuple[int, list[tuple[str, str]]]:
        """Status, and which backend was sent what."""
        for backend in self.backends.values():
            backend.reset()
        status = self.gateway.connect("keeping").get("keeping.test", target).status
        return status, [
            (name, request.path)
            for name, backend in self.backends.items()
            for request in backend.requests
        ]


@pytest.fixture(scope="module")
def keeping(shared_gateway: Gateway) -> Iterator[Keeping]:
    backends = {"rest": RawBackend(), "admin": RawBackend()}
    shared_gateway.extend(
        listeners={"keeping": {"address": ports.address(), "merge_slashes": False}},
        clusters={
            f"keeping-{name}": {"backends": {"raw": {"address": backend.address}}}
            for name, backend in backends.items()
        },
        frontends={
            "keeping-rest": {"listeners": ["keeping"], "cluster": "keeping-rest"},
            "keeping-admin": {
                "listeners": ["keeping"],
                "path": {"prefix": "/admin"},
                "cluster": "keeping-admin",
            },
        },
    )
    yield Keeping(shared_gateway, backends)
    for backend in backends.values():
        backend.stop()


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/resize/https://img.test//a.png", ("rest", "/resize/https://img.test//a.png")),
        ("//admin", ("rest", "//admin")),
        ("/admin//x", ("admin", "/admin//x")),
        ("//../admin", ("admin", "/admin")),
        ("//./admin", ("rest", "//admin")),
        ("/a//..//admin", ("rest", "/a//admin")),
        ("/", ("rest", "/")),
        ("/%61dmin//%62|", ("admin", "/admin//b%7C")),
    ],
)
def test_empty_segments_are_kept_where_the_listener_says_so(
    gateway: Gateway, keeping: Keeping, target: str, sent: tuple[str, str]
) -> None:
    assert keeping.ask(target) == (200, [sent])


def test_dot_segments_above_the_root_are_refused_there_too(
    gateway: Gateway, keeping: Keeping
) -> None:
    assert keeping.ask("//../..") == (400, [])


def test_explain_reads_paths_as_the_engine_does(gateway: Gateway, keeping: Keeping) -> None:
    port = gateway.addresses["keeping"].rpartition(":")[2]

    def told(path: str) -> Any:
        asked = gateway.daemon.run_cli("explain", f"http://keeping.test:{port}{path}", "--json")
        return json.loads(asked.stdout)["frontend"]["name"]

    assert told("//admin") == "keeping-rest"
    assert told("/x/../admin") == "keeping-admin"


# What is told of a refused target.


@pytest.mark.parametrize(
    ("line", "method", "path", "reason"),
    [
        ("GET /refused/%00 HTTP/1.1", "GET", "/refused/%00", "invalid_path"),
        ("GET /refused/../../x HTTP/1.1", "GET", "/refused/../../x", "invalid_path"),
        ("PUT /refused/x HTTP/3.1", "PUT", "/refused/x", "unsupported_version"),
        ("GET refused HTTP/1.1", "GET", "refused", "invalid_target"),
        ("GET /refused/y\x01 HTTP/1.1", "GET", "/refused/y\x01", "invalid_path"),
    ],
)
def test_a_refused_target_is_in_the_log(
    gateway: Gateway, lane: Lane, line: str, method: str, path: str, reason: str
) -> None:
    client = gateway.connect()
    client.send(f"{line}\r\nHost: {lane.host}\r\n\r\n".encode("latin-1"))
    assert client.read_response().status in (400, 505)
    [entry] = gateway.daemon.wait_for_access(lambda entry: entry["path"] == path)[-1:]
    assert (entry["method"], entry["outcome"]) == (method, reason)


def test_a_refused_field_has_its_target_and_host_in_the_log(gateway: Gateway, lane: Lane) -> None:
    client = gateway.connect()
    client.send(lane.head("GET /refused/field", "Bad Name: x"))
    assert client.read_response().status == 400
    [entry] = gateway.daemon.wait_for_access(lambda entry: entry["path"] == "/refused/field")
    assert (entry["method"], entry["host"]) == ("GET", lane.host)
