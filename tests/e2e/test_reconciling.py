"""Every request that came in comes out once, in the worker's own counters: whatever became of it.

`requests = served + cut + in flight`, exactly, with requests that are held, cut short by either
side, refused, answered by the proxy itself, and turned into tunnels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.harness import metrics, ports, rawclient, websocket, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

PLACES = 4
BODY_MAX = 1024


def _answer(exchange: Exchange) -> None:
    """What the path asks for."""
    path = exchange.request.path
    if path == "/held":
        exchange.wait_for_go()
    if path == "/dies":
        exchange.close()
    elif path == "/cut":
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart")
        exchange.close()
    elif path == "/endless":
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart")
        exchange.wait_for_end()
    elif path == "/socket":
        exchange.send(websocket.switching(exchange.request))
        exchange.wait_for_end()
    else:
        exchange.send(wire.response())


@dataclass
class Site:
    """A daemon of one worker with few places."""

    backend: RawBackend
    address: str
    admin: str

    def ask(self, path: str, host: str = "a") -> rawclient.Connection:
        """Send a request over a connection of its own."""
        client = rawclient.Connection(self.address)
        client.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return client

    def numbers(self, in_flight: int = 0) -> dict[str, int]:
        """The counters, once so many are in flight."""
        found = metrics.wait_for(self.admin, lambda now: now["kakehi_worker_requests"] == in_flight)
        return {name: int(value) for name, value in found.items()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    address, admin, backend = ports.address(), ports.address(), RawBackend()
    backend.script = _answer
    repo = Repo(tmp_path_factory.mktemp("reconciling"))
    repo.commit(
        {
            "kakehi.yaml": {
                "settings": {"access_log": "off", "admin": admin, "max_requests": PLACES},
                "listeners": {
                    "front": {
                        "address": address,
                        "h2c": True,
                        "limits": {"body_bytes": f"{BODY_MAX}B"},
                    }
                },
                "clusters": {
                    "only": {"backends": {"raw": {"address": backend.address}}},
                    "empty": {"backends": {}},
                },
                "frontends": {
                    "all": {"listeners": ["front"], "hostname": "a", "cluster": "only"},
                    "none": {"listeners": ["front"], "hostname": "b", "cluster": "empty"},
                },
            }
        }
    )
    with Kakehi(repo, workers=1):
        yield Site(backend, address, admin)
    backend.stop()


def _assert_reconciled(now: dict[str, int]) -> None:
    came = now["kakehi_requests_total"] + now["kakehi_passthroughs_total"]
    went = now["kakehi_requests_served_total"] + now["kakehi_requests_cut_total"]
    assert came == went + now["kakehi_worker_requests"], now


def _grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    names = ("requests", "requests_served", "requests_cut", "refused_requests", "not_found_404")
    return {name: after[f"kakehi_{name}_total"] - before[f"kakehi_{name}_total"] for name in names}


@pytest.mark.parametrize(
    ("path", "host", "status", "grown"),
    [
        ("/", "a", 200, (1, 1, 0, 0, 0)),
        # Answers of our own are answers: there is no backend, and one that dies.
        ("/", "b", 503, (1, 1, 0, 0, 0)),
        ("/dies", "a", 502, (1, 1, 0, 0, 0)),
        ("/", "elsewhere", 404, (0, 0, 0, 0, 1)),
    ],
)
def test_what_is_answered_is_served(
    site: Site, path: str, host: str, status: int, grown: tuple[int, ...]
) -> None:
    before = site.numbers()
    with site.ask(path, host) as client:
        assert client.read_response().status == status
        after = site.numbers()
    assert tuple(_grown(before, after).values()) == grown
    _assert_reconciled(after)


def _too_large_over_http1(address: str) -> int:
    with rawclient.Connection(address) as client:
        response = client.post("a", b"x" * (BODY_MAX + 1))
        assert response.status == 413
        return len(response.body)


def _too_large_over_http2(address: str) -> int:
    with H2Client(address) as client:
        stream = client.h2.get_next_available_stream_id()
        pseudo = {"method": "POST", "scheme": "http", "path": "/", "authority": "a"}
        fields = [(f":{name}", value) for name, value in pseudo.items()]
        client.h2.send_headers(stream, [*fields, ("content-length", str(BODY_MAX + 1))])
        client.flush()
        client.read_until(lambda: stream in client.ended)
        assert client.statuses[stream] == 413
        return len(client.bodies[stream])


@pytest.mark.parametrize("ask", [_too_large_over_http1, _too_large_over_http2])
def test_an_answer_of_our_own_counts_for_the_frontend_that_gives_it(
    site: Site, ask: Callable[[str], int]
) -> None:
    before = site.numbers()
    length = ask(site.address)
    after = site.numbers()
    assert tuple(_grown(before, after).values()) == (1, 1, 0, 0, 0)
    _assert_reconciled(after)
    names = {
        "frontend_requests": 1,
        "frontend_bytes_out": length,
        "cluster_requests": 0,
        "rejected_413": 1,
    }
    keys = {name: f"kakehi_{name}_total" for name in names}
    assert {name: after[key] - before[key] for name, key in keys.items()} == names
    by_class = "kakehi_responses_total.4xx"
    assert after[by_class] - before[by_class] == 1


def test_a_response_that_its_backend_cuts_is_cut(site: Site) -> None:
    before = site.numbers()
    with site.ask("/cut") as client:
        client.read_to_close()
    after = site.numbers()
    assert tuple(_grown(before, after).values()) == (1, 0, 1, 0, 0)
    _assert_reconciled(after)


@pytest.mark.parametrize("path", ["/held", "/endless"])
def test_a_request_whose_client_leaves_is_cut(site: Site, path: str) -> None:
    before = site.numbers()
    site.backend.go.clear()
    client = site.ask(path)
    held = site.numbers(in_flight=1)
    _assert_reconciled(held)
    client.reset()
    after = site.numbers()
    assert tuple(_grown(before, after).values()) == (1, 0, 1, 0, 0)
    _assert_reconciled(after)


def test_a_tunnel_is_in_flight_until_it_ends(site: Site) -> None:
    before = site.numbers()
    client = rawclient.Connection(site.address)
    client.send(websocket.handshake("a", "/socket"))
    assert client.read_head().status == 101
    _assert_reconciled(site.numbers(in_flight=1))
    client.close()
    after = site.numbers()
    assert _grown(before, after)["requests"] == 1
    _assert_reconciled(after)


def test_the_refused_are_counted_apart_while_others_are_held(site: Site) -> None:
    before = site.numbers()
    site.backend.go.clear()
    held = [site.ask("/held") for _ in range(PLACES)]
    site.numbers(in_flight=PLACES)
    refused = [site.ask("/") for _ in range(7)]
    assert [client.read_response().status for client in refused] == [503] * 7
    during = site.numbers(in_flight=PLACES)
    assert tuple(_grown(before, during).values()) == (PLACES, 0, 0, 7, 0)
    _assert_reconciled(during)
    site.backend.go.set()
    assert [client.read_response().status for client in held] == [200] * PLACES
    after = site.numbers()
    assert tuple(_grown(before, after).values()) == (PLACES, PLACES, 0, 7, 0)
    _assert_reconciled(after)
    for client in held + refused:
        client.close()
