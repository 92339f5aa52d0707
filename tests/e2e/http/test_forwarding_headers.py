"""What the proxy adds to requests and responses, what it takes away, and whom it believes."""

from __future__ import annotations

import re

import pytest

from tests.harness import wire
from tests.harness.gateway import Lane

SPOOFED = [
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 443",
    'Forwarded: for=203.0.113.7;proto=https;host="evil.test"',
    "X-Request-Id: chosen-by-the-client",
]


def _forwarded(value: bytes) -> list[dict[str, str]]:
    """Parse a Forwarded field value (RFC 7239) into its elements; a port of a node is cut off."""
    elements = []
    for element in value.decode().split(","):
        pairs = (pair.partition("=") for pair in element.split(";"))
        parameters = {name.strip().lower(): text.strip() for name, _, text in pairs}
        for name, text in parameters.items():
            # Whatever is no token must be quoted: a colon or a bracket is enough.
            assert re.fullmatch(r'[\w.-]+|"[^"]*"', text), value
            parameters[name] = text.strip('"')
        parameters["for"] = re.sub(r"(?<=[\d\]]):\d+$", "", parameters["for"])
        elements.append(parameters)
    return elements


def _port(lane: Lane, listener: str) -> bytes:
    return lane.gateway.addresses[listener].rpartition(":")[2].encode()


def test_forwarding_headers_are_set(lane: Lane) -> None:
    lane.get("/")
    request = lane.backend.last
    assert request.get("x-forwarded-for") == b"127.0.0.1"
    assert request.get("x-forwarded-proto") == b"http"
    assert request.get("x-forwarded-host") == lane.host.encode()
    assert request.get("x-forwarded-port") == _port(lane, "main")
    [element] = _forwarded(request.get("forwarded") or b"")
    assert element["for"] == "127.0.0.1"
    assert element["proto"] == "http"
    assert element["host"] == lane.host
    via = request.get("via") or b""
    assert re.fullmatch(rb"1\.1 \S+", via)
    assert request.get("host") == lane.host.encode()


def test_forwarding_headers_over_ipv6(lane: Lane) -> None:
    with lane.connect("ipv6") as client:
        client.get(lane.host)
    request = lane.backend.last
    assert request.get("x-forwarded-for") == b"::1"
    assert request.get("x-forwarded-port") == _port(lane, "ipv6")
    [element] = _forwarded(request.get("forwarded") or b"")
    assert element["for"] == "[::1]"


def test_spoofed_headers_of_strangers_are_replaced(lane: Lane) -> None:
    lane.get("/", *SPOOFED)
    request = lane.backend.last
    assert request.get("x-forwarded-for") == b"127.0.0.1"
    assert request.get("x-forwarded-proto") == b"http"
    assert request.get("x-forwarded-host") == lane.host.encode()
    assert request.get("x-forwarded-port") == _port(lane, "main")
    assert [element["for"] for element in _forwarded(request.get("forwarded") or b"")] == [
        "127.0.0.1"
    ]
    assert request.get("x-request-id") != b"chosen-by-the-client"
    everything = repr(request.fields)
    assert "203.0.113.7" not in everything
    assert "evil" not in everything


def test_headers_of_trusted_proxies_are_kept_and_extended(lane: Lane) -> None:
    with lane.connect("trusting") as client:
        client.get(lane.host, "/", *SPOOFED)
    request = lane.backend.last
    assert request.elements("x-forwarded-for") == [b"203.0.113.7", b"127.0.0.1"]
    assert request.get("x-forwarded-proto") == b"https"
    assert request.get("x-forwarded-host") == b"evil.test"
    assert request.get("x-forwarded-port") == b"443"
    assert request.get("x-request-id") == b"chosen-by-the-client"
    assert [element["for"] for element in _forwarded(request.get("forwarded") or b"")] == [
        "203.0.113.7",
        "127.0.0.1",
    ]


def test_several_lines_of_a_trusted_proxy_stay_in_order(lane: Lane) -> None:
    fields = ["X-Forwarded-For: 203.0.113.1, 203.0.113.2", "X-Forwarded-For: 203.0.113.3"]
    with lane.connect("trusting") as client:
        client.get(lane.host, "/", *fields)
    expected = [b"203.0.113.1", b"203.0.113.2", b"203.0.113.3", b"127.0.0.1"]
    assert lane.backend.last.elements("x-forwarded-for") == expected


def test_trusted_proxies_that_send_nothing_are_treated_like_clients(lane: Lane) -> None:
    with lane.connect("trusting") as client:
        client.get(lane.host)
    request = lane.backend.last
    assert request.get("x-forwarded-for") == b"127.0.0.1"
    assert request.get("x-forwarded-proto") == b"http"
    assert request.get("x-request-id")


def test_request_ids_are_unique_and_long_enough(lane: Lane) -> None:
    client = lane.connect()
    for _ in range(50):
        client.get(lane.host)
    ids = [request.get("x-request-id") or b"" for request in lane.backend.requests]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(rb"[0-9A-Za-z_-]{16,64}", value) for value in ids)


def test_via_is_appended(lane: Lane) -> None:
    lane.get("/", "Via: 1.0 fred")
    first, second = lane.backend.last.elements("via")
    assert first == b"1.0 fred"
    assert second.startswith(b"1.1 ")


@pytest.mark.parametrize(
    "fields",
    [
        ["Connection: X-Private", "X-Private: 1"],
        ["Connection: keep-alive, x-private", "X-PRIVATE: 1"],
        ["Connection: keep-alive", "Connection: X-Private", "X-Private: 1", "X-Private: 2"],
        ["X-Private: before", "Connection: ,x-private,", "X-Private: after"],
    ],
)
def test_fields_named_in_connection_are_removed(lane: Lane, fields: list[str]) -> None:
    lane.get("/", *fields, "X-Public: 1")
    request = lane.backend.last
    assert request.all("x-private") == []
    assert request.get("x-public") == b"1"
    assert b"x-private" not in request.elements("connection")


@pytest.mark.parametrize(
    "field",
    [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: gzip",
        "Upgrade: h2c",
        "Upgrade: foo/2",
    ],
)
def test_hop_by_hop_fields_of_requests_are_removed(lane: Lane, field: str) -> None:
    name = field.partition(":")[0]
    assert lane.get("/", field, f"Connection: {name}").status == 200
    assert lane.backend.last.all(name) == []
    assert lane.get("/", field).status == 200
    assert lane.backend.last.all(name) == []


def test_hop_by_hop_fields_of_responses_are_removed(lane: Lane) -> None:
    fields = [
        ("Connection", "keep-alive, X-Private"),
        ("Keep-Alive", "timeout=5, max=100"),
        ("Proxy-Connection", "keep-alive"),
        ("X-Private", "1"),
        ("X-Public", "1"),
        ("Upgrade", "h2c"),
    ]
    lane.backend.script = lambda exchange: exchange.send(wire.response(fields=fields))
    response = lane.get()
    assert response.get("x-public") == b"1"
    for name in ("x-private", "keep-alive", "proxy-connection", "upgrade"):
        assert response.all(name) == [], name
    assert b"x-private" not in response.elements("connection")


def test_end_to_end_fields_are_passed_on(lane: Lane) -> None:
    fields = [
        ("Authorization", "Bearer secret"),
        ("Cookie", "a=b; c=d"),
        ("Accept-Encoding", "gzip, br"),
        ("Range", "bytes=0-1"),
        ("User-Agent", "suite"),
        ("Origin", "http://elsewhere.test"),
    ]
    lane.backend.script = lambda exchange: exchange.send(
        wire.response(fields=[("Server", "raw"), ("Date", "now"), ("ETag", '"1"')])
    )
    response = lane.get("/", *(f"{name}: {value}" for name, value in fields))
    for name, value in fields:
        assert lane.backend.last.get(name) == value.encode()
    for name, value in (("server", b"raw"), ("date", b"now"), ("etag", b'"1"')):
        assert response.get(name) == value


def test_the_generation_header(lane: Lane) -> None:
    assert lane.get().get("kakehi-generation") == b"%d" % lane.gateway.daemon.generation


CUSTOMARY = {
    "all of them": [
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.test",
        "X-Forwarded-Port: 443",
    ],
    "the client alone": ["X-Forwarded-For: 203.0.113.7"],
    "the scheme alone": ["X-Forwarded-Proto: https"],
    "another word": ["X-Real-IP: 203.0.113.7"],
}


@pytest.mark.parametrize("fields", CUSTOMARY.values(), ids=CUSTOMARY)
def test_a_balancer_that_knows_no_forwarded_is_not_contradicted(
    lane: Lane, fields: list[str]
) -> None:
    """Spring and others read Forwarded first, and would take the balancer for the client."""
    with lane.connect("trusting") as client:
        client.get(lane.host, "/", *fields)
    request = lane.backend.last
    assert request.all("forwarded") == []
    for field in fields:
        name, _, value = field.partition(": ")
        assert value.encode() in request.elements(name)


def test_a_balancer_that_knows_only_forwarded_is_not_contradicted_either(lane: Lane) -> None:
    with lane.connect("trusting") as client:
        client.get(lane.host, "/", "Forwarded: for=203.0.113.7;proto=https")
    request = lane.backend.last
    elements = _forwarded(request.get("forwarded") or b"")
    assert [element["for"] for element in elements] == ["203.0.113.7", "127.0.0.1"]
    assert not [name for name in request.names() if name.startswith("x-forwarded-")]
