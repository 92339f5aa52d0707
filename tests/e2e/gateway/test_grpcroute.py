"""GRPCRoute's features, core and extended, by their names in the Gateway API."""

from __future__ import annotations

from collections import Counter

from tests.e2e.gateway.conftest import Site
from tests.harness.h2client import H2Client


def _call(site: Site, host: str, path: str, *fields: tuple[str, str]) -> tuple[int, bytes]:
    with H2Client(site.address) as client:
        stream = client.get(host, ("content-type", "application/grpc"), *fields, path=path)
        client.read_until(lambda: stream in client.ended)
    return client.statuses[stream], client.bodies.get(stream, b"")


def test_grpc_exact_method_matching(site: Site) -> None:
    assert _call(site, "grpc.test", "/shop.Cart/Add") == (200, b"/shop.Cart/Add")
    before = len(site.grpc_next.seen)
    assert _call(site, "grpc.test", "/shop.Cart/Next") == (200, b"/shop.Cart/Next")
    assert len(site.grpc_next.seen) == before + 1
    # Without a route it is a status of gRPC's own: 12, unimplemented, with 200.
    assert _call(site, "grpc.test", "/shop.Basket/Add")[1] == b""


def test_grpc_route_header_matching(site: Site) -> None:
    before = len(site.grpc.seen)
    assert _call(site, "grpc.test", "/shop.Cart/Empty", ("version", "two"))[1] == b""
    assert len(site.grpc.seen) == before, "it was answered"
    assert _call(site, "grpc.test", "/shop.Cart/Empty")[1] == b"/shop.Cart/Empty"
    assert _call(site, "grpc.test", "/shop.Cart/Empty", ("version", "one"))[0] == 200


def test_grpc_route_listener_hostname_matching(site: Site) -> None:
    before = len(site.grpc.seen) + len(site.grpc_next.seen)
    _call(site, "other-grpc.test", "/shop.Cart/Add")
    assert len(site.grpc.seen) + len(site.grpc_next.seen) == before


def test_grpc_route_weight(site: Site) -> None:
    before = len(site.grpc.seen), len(site.grpc_next.seen)
    for _ in range(200):
        assert _call(site, "grpc-weight.test", "/a.B/C") == (200, b"/a.B/C")
    found = Counter(grpc=len(site.grpc.seen) - before[0], next=len(site.grpc_next.seen) - before[1])
    assert found.total() == 200
    assert 5 <= found["next"] <= 45


def test_grpc_route_named_route_rule(site: Site) -> None:
    _call(site, "grpc.test", "/shop.Cart/Named")
    [entry] = site.daemon.wait_for_access(lambda it: it["path"] == "/shop.Cart/Named", 1)
    assert entry["frontend"] == "service"


def test_grpc_route_request_header_modifier(site: Site) -> None:
    before = len(site.grpc.seen)
    fields = (("x-set", "client"), ("x-add", "a"), ("x-gone", "client"))
    assert _call(site, "grpc-header.test", "/a.B/C", *fields)[0] == 200
    [request] = site.grpc.seen[before:]
    assert [value for name, value in request.fields if name == "x-set"] == ["set"]
    assert sorted(value for name, value in request.fields if name == "x-add") == ["a", "b"]
    assert request.get("x-gone") is None
