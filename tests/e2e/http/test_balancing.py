"""How requests are spread over the backends of a cluster. One worker, so counts are exact."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.harness import rawclient, wire
from tests.harness.gateway import Gateway
from tests.harness.rawbackend import Exchange, RawBackend

Backends = Callable[..., RawBackend]


def _named(name: str, go_on: threading.Event | None = None) -> Callable[[Exchange], None]:
    def script(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.path == "/hold" and go_on is not None:
            exchange.wait(go_on)
        exchange.send(wire.response(name.encode()))

    return script


def _count(client: rawclient.Connection, host: str, requests: int) -> Counter[str]:
    return Counter(client.get(host).body.decode() for _ in range(requests))


def test_weighted_round_robin_is_exact(gateway: Gateway, backends: Backends) -> None:
    weights = {"a": 1, "b": 2, "c": 3}
    host = gateway.cluster(
        "round-robin",
        {n: {"address": backends(_named(n)).address, "weight": w} for n, w in weights.items()},
    )
    client = gateway.connect()
    for _ in range(5):
        assert _count(client, host, 6) == weights
    with gateway.connect() as other:
        assert _count(client, host, 30) + _count(other, host, 30) == {"a": 10, "b": 20, "c": 30}


def test_weighted_round_robin_interleaves(gateway: Gateway, backends: Backends) -> None:
    host = gateway.cluster(
        "smooth",
        {
            "a": {"address": backends(_named("a")).address, "weight": 50},
            "b": {"address": backends(_named("b")).address, "weight": 50},
        },
    )
    client = gateway.connect()
    order = [client.get(host).body.decode() for _ in range(10)]
    assert order in (["a", "b"] * 5, ["b", "a"] * 5)


@pytest.mark.parametrize("way", ["round_robin", "random", "least_connections", "power_of_two"])
def test_weight_0_gets_nothing_new(gateway: Gateway, backends: Backends, way: str) -> None:
    host = gateway.cluster(
        f"weight-0-{way.replace('_', '-')}",
        {
            "a": {"address": backends(_named("a")).address, "weight": 0},
            "b": {"address": backends(_named("b")).address, "weight": 1},
        },
        load_balancing=way,
    )
    assert _count(gateway.connect(), host, 30) == {"b": 30}


def test_random_follows_the_weights(gateway: Gateway, backends: Backends) -> None:
    host = gateway.cluster(
        "random",
        {
            "a": {"address": backends(_named("a")).address, "weight": 1},
            "b": {"address": backends(_named("b")).address, "weight": 3},
        },
        load_balancing="random",
    )
    client = gateway.connect()
    names = [client.get(host).body.decode() for _ in range(800)]
    # The standard deviation is 12.2: seven of them on either side of the mean of 200.
    assert 115 < names.count("a") < 285
    # No pattern: each of the two follows each of the two.
    assert set(pairwise(names)) == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}


def _hold(gateway: Gateway, host: str, count: int) -> list[rawclient.Connection]:
    held = [gateway.connect() for _ in range(count)]
    for client in held:
        client.send(f"GET /hold HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return held


def test_least_connections_goes_where_the_fewest_requests_are(
    gateway: Gateway, backends: Backends
) -> None:
    go_on = threading.Event()
    made = {name: backends(_named(name, go_on)) for name in "abc"}
    host = gateway.cluster(
        "least", {n: b.address for n, b in made.items()}, load_balancing="least_connections"
    )
    held: list[rawclient.Connection] = []
    for number in range(1, 10):
        held += _hold(gateway, host, 1)
        # One after the other, so that each is counted before the next is placed.
        made["a"].wait_until(lambda count=number: _in_all(made) == count)
        counts = sorted(len(backend.requests) for backend in made.values())
        assert counts[-1] - counts[0] <= 1, counts
    go_on.set()
    assert Counter(client.read_response().body for client in held) == {b"a": 3, b"b": 3, b"c": 3}


def test_least_connections_weighs(gateway: Gateway, backends: Backends) -> None:
    go_on = threading.Event()
    made = {name: backends(_named(name, go_on)) for name in "ab"}
    host = gateway.cluster(
        "least-weighted",
        {
            "a": {"address": made["a"].address, "weight": 1},
            "b": {"address": made["b"].address, "weight": 3},
        },
        load_balancing="least_connections",
    )
    held = _hold(gateway, host, 8)
    made["a"].wait_until(lambda: _in_all(made) == 8)
    go_on.set()
    counts = Counter(client.read_response().body for client in held)
    assert counts[b"a"] + counts[b"b"] == 8
    assert counts[b"b"] >= 4


def test_power_of_two_spreads_requests_in_flight(gateway: Gateway, backends: Backends) -> None:
    go_on = threading.Event()
    made = {name: backends(_named(name, go_on)) for name in "ab"}
    host = gateway.cluster(
        "power-spread", {n: b.address for n, b in made.items()}, load_balancing="power_of_two"
    )
    held = _hold(gateway, host, 20)
    made["a"].wait_until(lambda: _in_all(made) == 20)
    # Evenly when the two choices differ; further apart when both may be the same backend.
    assert min(len(backend.requests) for backend in made.values()) >= 4
    go_on.set()
    for client in held:
        client.read_response()


def test_power_of_two_avoids_a_busy_backend(gateway: Gateway, backends: Backends) -> None:
    go_on = threading.Event()
    busy, idle = backends(_named("busy", go_on)), backends(_named("idle"))
    host = gateway.cluster(
        "power-busy",
        {"busy": busy.address, "idle": idle.address},
        load_balancing="power_of_two",
    )
    for attempt in range(1, 100):
        _hold(gateway, host, 1)
        busy.wait_until(lambda count=attempt: len(busy.requests + idle.requests) == count)
        if busy.requests:
            break
    counts = _count(gateway.connect(), host, 200)
    go_on.set()
    # Chosen only when both choices fall on it: never, or for a quarter (standard deviation 6).
    assert counts["busy"] < 90


def _in_all(made: dict[str, RawBackend]) -> int:
    return sum(len(backend.requests) for backend in made.values())


@pytest.mark.parametrize("way", ["round_robin", "least_connections"])
def test_a_change_of_the_cluster_goes_on_with_the_next_backend(
    gateway: Gateway, backends: Backends, way: str
) -> None:
    """Otherwise a cluster that is changed often sends everything to its first backends."""
    names = "abcd"
    addresses = {name: backends(_named(name)).address for name in names}
    found = []
    client = gateway.connect()
    name = f"goes-on-{way.replace('_', '-')}"
    host = gateway.cluster(name, addresses, load_balancing=way)
    for change in range(4):
        found.append(client.get(host).body.decode())
        gateway.daemon.commit(
            {
                f"extension-{gateway.extensions}.yaml": {
                    "clusters": {
                        name: {
                            "load_balancing": way,
                            "timeouts": {"response_head": f"{20 + change}s"},
                            "backends": {
                                key: {"address": address} for key, address in addresses.items()
                            },
                        }
                    },
                    "frontends": {name: {"listeners": ["main"], "hostname": host, "cluster": name}},
                }
            }
        )
    assert found == list(names)
