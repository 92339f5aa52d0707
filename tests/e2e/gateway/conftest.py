"""A site with a frontend for each feature of HTTPRoute and GRPCRoute, for the tests here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ports.side_by_side import Backends
from tests.harness import ports, rawclient, websocket, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
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
        self.mirrored_too = RawBackend(answer(wire.response(b"", status="500 No")))
        self.socket = RawBackend(websocket.serve_echo)
        self.multiplexed, self.grpc, self.grpc_next = (H2Backend(_respond) for _ in range(3))
        self.daemon = Kakehi(Repo(directory), workers=1)
        self.daemon.repo.commit({"kakehi.yaml": self._document()})
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.stop()
        self.backends.stop()
        for raw in (self.slow, self.mirrored, self.mirrored_too, self.socket):
            raw.stop()
        for each in (self.multiplexed, self.grpc, self.grpc_next):
            each.stop()

    def _document(self) -> dict[str, Any]:
        addresses = {
            **{GROUPS[port]: each.address for port, each in self.backends.by_port.items()},
            "slow": self.slow.address,
            "mirrored": self.mirrored.address,
            "mirrored-too": self.mirrored_too.address,
            "socket": self.socket.address,
        }
        clusters: dict[str, Any] = {
            name: {"backends": {"a": {"address": address}}} for name, address in addresses.items()
        }
        for name, each in (
            ("multiplexed", self.multiplexed),
            ("grpc", self.grpc),
            ("grpc-next", self.grpc_next),
        ):
            clusters[name] = {"protocol": "h2", "backends": {"a": {"address": each.address}}}
        # Nobody listens at the first.
        clusters["half"] = {
            "retries": 1,
            "backends": {
                "gone": {"address": ports.address()},
                "there": {"address": self.backends.by_port[1].address},
            },
        }
        return {
            "settings": {"access_log": str(self.daemon.access_log)},
            "listeners": {
                "main": {"address": self.address, "h2c": True},
                "other": {"address": self.other},
            },
            "clusters": clusters,
            "policies": {"hurried": {"timeouts": {"request": "100ms"}}},
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
        found = asked(response) if response.status == 200 else None
        return str(found["backend"]) if found else response.status

    def target(self, host: str, path: str) -> str:
        return str(asked(self.get(host, path))["target"])


def _respond(request: Request) -> None:
    request.read()
    request.answer(request.path.encode())


def asked(response: wire.Response) -> Any:
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
        "mirrors": {
            "hostname": "mirrors.test",
            "mirror": [{"cluster": "mirrored"}, {"cluster": "mirrored-too"}],
            **v1,
        },
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
        "overdue": {
            "hostname": "overdue.test",
            "timeouts": {"request": "200ms"},
            "cluster": "slow",
        },
        "in-time": {"hostname": "in-time.test", "timeouts": {"request": "20s"}, **v1},
        "no-bound": {
            "hostname": "no-bound.test",
            "policies": ["hurried"],
            "timeouts": {"request": None},
            "cluster": "slow",
        },
        "h2c": {"hostname": "h2c.test", "cluster": "multiplexed"},
        "socket": {"hostname": "socket.test", "cluster": "socket"},
        "by-port": {"hostname": "by-port.test", "listeners": ["other"], **v1},
        "port-main": {"hostname": "ports.test", **v1},
        "port-other": {"hostname": "ports.test", "listeners": ["other"], **v2},
        "half": {"hostname": "half.test", "cluster": "half"},
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
        "call": {
            "hostname": "grpc.test",
            "path": {"exact": "/shop.Cart/Next"},
            "cluster": "grpc-next",
        },
        "grpc-weight": {"hostname": "grpc-weight.test", "split": {"grpc": 90, "grpc-next": 10}},
        "grpc-header": {
            "hostname": "grpc-header.test",
            "request_headers": {
                "set": {"X-Set": "set"},
                "add": {"X-Add": "b"},
                "remove": ["X-Gone"],
            },
            "cluster": "grpc",
        },
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("gateway"))
    yield made
    made.stop()
