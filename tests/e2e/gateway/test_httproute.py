"""HTTPRoute's features, core and extended, by their names in the Gateway API.

What is expected is what the API's own conformance tests ask for. What has no test here is named in
docs/porting/gateway-api.md, with the reason.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.e2e.gateway.conftest import Site, asked
from tests.harness import rawclient, websocket, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import answer


def test_http_route_hostname_intersection(site: Site) -> None:
    assert site.group("very.specific.test") == "v1"
    assert site.group("a.specific.test") == site.group("a.b.specific.test") == "v2"
    assert site.group("specific.test") == 404
    assert site.group("other.test") == 404


def test_http_route_path_matching(site: Site) -> None:
    assert [site.group("path.test", each) for each in ("/one", "/v2", "/v2/", "/v2/x")] == [
        "v1",
        "v2",
        "v2",
        "v2",
    ]
    assert [site.group("path.test", each) for each in ("/v2/deep/x", "/v2deep", "/one/x")] == [
        "v3",
        404,
        404,
    ]


def test_http_route_header_matching(site: Site) -> None:
    assert site.group("header.test", "/", "Version: one") == "v1"
    assert site.group("header.test", "/", "VERSION: two", "color: red") == "v2"
    assert site.group("header.test", "/", "Version: two") == 404
    assert site.group("header.test") == 404


def test_http_route_query_param_matching(site: Site) -> None:
    assert site.group("query.test", "/?animal=whale") == "v1"
    assert site.group("query.test", "/?color=blue&animal=whale") == "v2"
    # The first of several counts.
    assert site.group("query.test", "/?animal=whale&animal=cat") == "v1"
    assert site.group("query.test", "/?animal=cat&animal=whale") == 404


def test_http_route_method_matching(site: Site) -> None:
    assert site.group("method.test") == "v1"
    assert site.group("method.test", method="POST") == "v2"
    assert site.group("method.test", method="HEAD") == 404


def test_http_route_weight(site: Site) -> None:
    found = Counter(site.group("weight.test") for _ in range(400))
    assert set(found) == {"v1", "v2"}
    assert 220 < found["v1"] < 340


def test_http_route_response_header_modification(site: Site) -> None:
    response = site.get("response.test")
    assert (response.get("x-powered-by"), response.get("x-added")) == (b"us", b"a")


def test_http_route_request_header_modification(site: Site) -> None:
    fields = ("X-User: mine", "Cookie: a=b")
    headers = asked(site.get("request.test", "/", *fields))["headers"]
    assert (headers["x-user"], headers.get("cookie")) == ("set", None)


def test_http_route_host_rewrite(site: Site) -> None:
    assert asked(site.get("rewrite.test"))["headers"]["host"] == "one.test"


def test_http_route_path_rewrite(site: Site) -> None:
    assert site.target("full.test", "/full/two?a=b") == "/one?a=b"
    paths = ("/strip/three", "/strip", "/strip/")
    assert [site.target("strip.test", each) for each in paths] == ["/three", "/", "/"]


def _location(site: Site, host: str, path: str) -> bytes | None:
    response = site.get(host, path)
    assert response.status == 302
    return response.get("location")


def test_http_route_path_redirect(site: Site) -> None:
    assert _location(site, "replace.test", "/old/x?a") == b"http://replace.test/new/x?a"
    assert _location(site, "replace.test", "/old") == b"http://replace.test/new"


def test_http_route_scheme_redirect(site: Site) -> None:
    assert _location(site, "scheme.test", "/x") == b"https://scheme.test/x"


def test_http_route_port_redirect(site: Site) -> None:
    assert _location(site, "port.test", "/x?a") == b"http://port.test:8083/x?a"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_http_route_redirect_status_code(site: Site, status: int) -> None:
    assert site.get(f"s{status}.test").status == status


def test_http_route_request_mirror(site: Site) -> None:
    site.mirrored.reset()
    assert site.group("mirror.test", "/both?x") == "v1"
    site.mirrored.wait_for_requests(1)
    assert site.mirrored.last.target == b"/both?x"


def test_http_route_request_multiple_mirrors(site: Site) -> None:
    mirrors = (site.mirrored, site.mirrored_too)
    for mirror in mirrors:
        mirror.reset()
    assert site.group("mirrors.test", "/each?x") == "v1"
    for mirror in mirrors:
        mirror.wait_for_requests(1)
        assert mirror.last.target == b"/each?x"


def test_http_route_request_percentage_mirror(site: Site) -> None:
    site.mirrored.reset()
    for _ in range(200):
        assert site.group("share.test") == "v1"
    site.mirrored.wait_until(lambda: len(site.mirrored.requests) > 30)
    assert len(site.mirrored.requests) < 95


def test_http_route_request_timeout(site: Site) -> None:
    began = time.monotonic()
    assert site.get("overdue.test").status == 504
    assert time.monotonic() - began < 1.5
    assert site.group("in-time.test") == "v1"


def test_http_route_request_timeout_disabled(site: Site) -> None:
    """Its own word is that there is none, in place of the 100 ms of a policy: 0s there."""
    site.slow.script = lambda exchange: (time.sleep(0.5), answer(wire.response(b"late"))(exchange))[
        1
    ]
    assert site.get("no-bound.test").body == b"late"


def test_http_route_backend_timeout(site: Site) -> None:
    began = time.monotonic()
    assert site.get("slow.test").status == 504
    assert time.monotonic() - began < 1.5


def test_http_route_cors(site: Site) -> None:
    for origin in ("https://www.foo.com", "https://x.bar.com"):
        fields = (f"Origin: {origin}", "Access-Control-Request-Method: PUT")
        preflight = site.get("cors.test", "/", *fields, method="OPTIONS")
        assert preflight.status in (200, 204)
        assert preflight.get("access-control-allow-origin") == origin.encode()
        assert preflight.get("access-control-allow-credentials") == b"true"
        assert preflight.get("access-control-max-age") == b"3600"
        assert b"put" in preflight.elements("access-control-allow-methods")
    for origin in ("https://foo.com", "http://www.foo.com", "https://bar.com"):
        response = site.get("cors.test", "/", f"Origin: {origin}")
        assert response.get("access-control-allow-origin") is None


def test_http_route_backend_protocol_h2c(site: Site) -> None:
    before = len(site.multiplexed.seen)
    response = site.get("h2c.test", "/by-http1?x")
    assert (response.status, response.body) == (200, b"/by-http1?x")
    with H2Client(site.address) as client:
        stream = client.get("h2c.test", path="/by-http2")
        client.read_until(lambda: stream in client.ended)
    assert client.bodies[stream] == b"/by-http2"
    asked_for = [(each.get(":scheme"), each.get(":authority")) for each in site.multiplexed.seen]
    assert asked_for[before:] == [("http", "h2c.test")] * 2


def test_http_route_backend_protocol_web_socket(site: Site) -> None:
    with rawclient.Connection(site.address) as connection:
        client = websocket.Client(connection, "socket.test", "/chat")
        client.echo(b"one")
        client.echo(b"x" * 70_000)


def test_http_route_parent_ref_port(site: Site) -> None:
    assert site.group("by-port.test", other=True) == "v1"
    assert site.group("by-port.test") == 404


def test_http_route_destination_port_matching(site: Site) -> None:
    """The same hostname at two ports is two routes."""
    assert site.group("ports.test") == "v1"
    assert site.group("ports.test", other=True) == "v2"
    # What a client writes in Host is not where it has connected to.
    assert site.group(f"ports.test:{site.other.rpartition(':')[2]}") == "v1"


def test_http_route_named_route_rule(site: Site) -> None:
    """A rule's name is its frontend's: it is what the log, show and explain tell it by."""
    assert site.group("path.test", "/v2/named") == "v2"
    [entry] = site.daemon.wait_for_access(lambda it: it["path"] == "/v2/named", 1)
    assert entry["frontend"] == "path-prefix"
    port = site.address.rpartition(":")[2]
    told = site.daemon.json("explain", f"http://path.test:{port}/v2/named")
    assert told["frontend"]["name"] == "path-prefix"
    [shown] = site.daemon.json("show", "frontend/path-prefix")["entities"]
    assert shown["name"] == "path-prefix"


def test_http_route_retry_connection_error(site: Site) -> None:
    assert [site.group("half.test") for _ in range(6)] == ["v1"] * 6
