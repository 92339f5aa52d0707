"""HTTPRoute's and GRPCRoute's features, core and extended, by their names in the Gateway API.

What is expected is what the API's own conformance tests ask for. Not there yet, and so without a
test: several mirrors, changes for one backend of several, a bound for the whole request, retries.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ports.side_by_side import Backends
from tests.harness import ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.repo import Repo

GROUPS = {1: "v1", 2: "v2", 3: "v3"}


class Site:
    """Frontends by hostname, each of them one feature."""

    def __init__(self, directory: Path) -> None:
        self.address, self.other = ports.address(), ports.address()
        self.backends = Backends(GROUPS)
        self.slow = RawBackend(lambda exchange: time.sleep(2))
        self.mirrored = RawBackend(answer(wire.response(b"", status="500 No")))
        self.grpc = H2Backend(_respond)
        self.daemon = Kakehi(Repo(directory), workers=1)
        self.daemon.repo.commit({"kakehi.yaml": self._document()})
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.stop()
        self.backends.stop()
        for each in (self.slow, self.mirrored, self.grpc):
            each.stop()

    def _document(self) -> dict[str, Any]:
        addresses = {
            **{GROUPS[port]: each.address for port, each in self.backends.by_port.items()},
            "slow": self.slow.address,
            "mirrored": self.mirrored.address,
        }
        clusters: dict[str, Any] = {
            name: {"backends": {"a": {"address": address}}} for name, address in addresses.items()
        }
        clusters["grpc"] = {"protocol": "h2", "backends": {"a": {"address": self.grpc.address}}}
        return {
            "listeners": {
                "main": {"address": self.address, "h2c": True},
                "other": {"address": self.other},
            },
            "clusters": clusters,
            "frontends": {
                name: {"listeners": ["main"], **keys} for name, keys in _frontends().items()
            },
        }

    def get(
        self, host: str, path: str = "/", *fields: str, method: str = "GET", other: bool = False
    ) -> wire.Response:
        with rawclient.Connection(self.other if other else self.address) as client:
            return client.get(host, path, *fields, method=method)

    def group(self, host: str, path: str = "/", *fields: str, **options: Any) -> str | int:
        """Which backends got a request, or the status that came instead."""
        response = self.get(host, path, *fields, **options)
        found = _asked(response) if response.status == 200 else None
        return str(found["backend"]) if found else response.status

    def target(self, host: str, path: str) -> str:
        return str(_asked(self.get(host, path))["target"])


def _respond(request: Request) -> None:
    request.read()
    request.answer(request.path.encode())


def _asked(response: wire.Response) -> Any:
    """What a backend was asked, by its answer."""
    return json.loads(response.body)


def _frontends() -> dict[str, dict[str, Any]]:
    v1: dict[str, Any] = {"cluster": "v1"}
    v2: dict[str, Any] = {"cluster": "v2"}
    query: dict[str, Any] = {"hostname": "query.test"}
    header: dict[str, Any] = {"hostname": "header.test"}
    method: dict[str, Any] = {"hostname": "method.test"}
    path: dict[str, Any] = {"hostname": "path.test"}
    return {
        "exact": {"hostname": "very.specific.test", **v1},
        "wildcard": {"hostname": "*.specific.test", **v2},
        "path-exact": {**path, "path": {"exact": "/one"}, **v1},
        "path-prefix": {**path, "path": {"prefix": "/v2"}, **v2},
        "path-deeper": {**path, "path": {"prefix": "/v2/deep"}, "cluster": "v3"},
        "header-1": {**header, "headers": {"version": "one"}, **v1},
        "header-2": {**header, "headers": {"version": "two", "color": "red"}, **v2},
        "query-1": {**query, "query": {"animal": "whale"}, **v1},
        "query-2": {**query, "query": {"animal": "whale", "color": "blue"}, **v2},
        "method-get": {**method, "methods": ["GET"], **v1},
        "method-post": {**method, "methods": ["POST"], **v2},
        "weight": {"hostname": "weight.test", "split": {"v1": 70, "v2": 30, "v3": 0}},
        "response": {
            "hostname": "response.test",
            "response_headers": {
                "set": {"X-Powered-By": "us"},
                "add": {"X-Added": "a"},
                "remove": ["Content-Language"],
            },
            **v1,
        },
        "request": {
            "hostname": "request.test",
            "request_headers": {"set": {"X-User": "set"}, "remove": ["Cookie"]},
            **v1,
        },
        "host-rewrite": {"hostname": "rewrite.test", "rewrite": {"hostname": "one.test"}, **v1},
        "full": {
            "hostname": "full.test",
            "path": {"prefix": "/full"},
            "rewrite": {"path": {"full": "/one"}},
            **v1,
        },
        "strip": {
            "hostname": "strip.test",
            "path": {"prefix": "/strip"},
            "rewrite": {"path": {"prefix": "/"}},
            **v1,
        },
        "replace": {
            "hostname": "replace.test",
            "path": {"prefix": "/old"},
            "redirect": {"path": {"prefix": "/new"}},
        },
        "scheme": {"hostname": "scheme.test", "redirect": {"scheme": "https"}},
        "port": {"hostname": "port.test", "redirect": {"port": 8083}},
        **{
            f"status-{status}": {
                "hostname": f"s{status}.test",
                "redirect": {"path": {"full": "/n"}, "status": status},
            }
            for status in (301, 302, 303, 307, 308)
        },
        "mirror": {"hostname": "mirror.test", "mirror": {"cluster": "mirrored"}, **v1},
        "share": {
            "hostname": "share.test",
            "mirror": {"cluster": "mirrored", "share": "30%"},
            **v1,
        },
        "slow": {
            "hostname": "slow.test",
            "timeouts": {"response_head": "200ms"},
            "cluster": "slow",
        },
        "cors": {
            "hostname": "cors.test",
            "cors": {
                "origins": ["https://www.foo.com", "https://*.bar.com"],
                "methods": ["PUT"],
                "headers": ["X-Header-1"],
                "credentials": True,
                "max_age": "1h",
            },
            **v1,
        },
        "by-port": {"hostname": "by-port.test", "listeners": ["other"], **v1},
        "service": {
            "hostname": "grpc.test",
            "path": {"prefix": "/shop.Cart"},
            "cluster": "grpc",
        },
        "rpc": {
            "hostname": "grpc.test",
            "path": {"exact": "/shop.Cart/Empty"},
            "headers": {"version": "two"},
            "respond": {"status": 403},
        },
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("gateway"))
    yield made
    made.stop()


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
    headers = _asked(site.get("request.test", "/", *fields))["headers"]
    assert (headers["x-user"], headers.get("cookie")) == ("set", None)


def test_http_route_host_rewrite(site: Site) -> None:
    assert _asked(site.get("rewrite.test"))["headers"]["host"] == "one.test"


def test_http_route_path_rewrite(site: Site) -> None:
    assert site.target("full.test", "/full/two?a=b") == "/one?a=b"
    paths = ("/strip/three", "/strip", "/strip/")
    assert [site.target("strip.test", each) for each in paths] == ["/three", "/", "/"]


@pytest.mark.parametrize(
    ("host", "path", "location"),
    [
        ("replace.test", "/old/x?a", "http://replace.test/new/x?a"),
        ("scheme.test", "/x", "https://scheme.test/x"),
        ("port.test", "/x", "http://port.test:8083/x"),
    ],
)
def test_http_route_path_scheme_and_port_redirect(
    site: Site, host: str, path: str, location: str
) -> None:
    response = site.get(host, path)
    assert (response.status, response.get("location")) == (302, location.encode())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_http_route_redirect_status_code(site: Site, status: int) -> None:
    assert site.get(f"s{status}.test").status == status


def test_http_route_request_mirror(site: Site) -> None:
    site.mirrored.reset()
    assert site.group("mirror.test", "/both?x") == "v1"
    site.mirrored.wait_for_requests(1)
    assert site.mirrored.last.target == b"/both?x"


def test_http_route_request_percentage_mirror(site: Site) -> None:
    site.mirrored.reset()
    for _ in range(200):
        assert site.group("share.test") == "v1"
    site.mirrored.wait_until(lambda: len(site.mirrored.requests) > 30)
    assert len(site.mirrored.requests) < 95


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


def test_http_route_parent_ref_port(site: Site) -> None:
    assert site.group("by-port.test", other=True) == "v1"
    assert site.group("by-port.test") == 404


def test_grpc_route_method_and_header_matching(site: Site) -> None:
    with H2Client(site.address) as client:
        every = client.get("grpc.test", path="/shop.Cart/Add")
        unknown = client.get("grpc.test", path="/shop.Basket/Add")
        refused = client.get("grpc.test", ("version", "two"), path="/shop.Cart/Empty")
        client.read_until(lambda: {every, unknown, refused} <= client.ended)
    assert client.bodies[every] == b"/shop.Cart/Add"
    assert [client.statuses[each] for each in (every, unknown, refused)] == [200, 404, 403]
