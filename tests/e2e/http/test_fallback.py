"""Who serves requests while no backend of their cluster can be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import ports, wire
from tests.harness.fixtures import Nowhere
from tests.harness.gateway import Gateway
from tests.harness.processes import wait_until
from tests.harness.rawbackend import RawBackend, answer

Backends = Callable[..., RawBackend]


def _extended(
    gateway: Gateway,
    name: str,
    address: str,
    fallback: dict[str, Any],
    others: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    """Add a cluster that falls back, and a frontend for it; return the frontend's hostname."""
    host = f"{name}.test"
    cluster = {"backends": {"a": {"address": address}}, "fallback": fallback}
    gateway.extend(
        clusters={name: {**cluster, **more}, **(others or {})},
        frontends={name: {"listeners": ["main"], "hostname": host, "cluster": name}},
    )
    return host


def _spare(address: str, **more: Any) -> dict[str, Any]:
    return {"backends": {"a": {"address": address}}, **more}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_cluster_serves_what_cannot_be_connected_for(
    gateway: Gateway, backends: Backends, nowhere: Nowhere, method: str
) -> None:
    spare, name = backends(answer(wire.response(b"spare"))), f"fallback-{method.lower()}"
    other = f"{name}-spare"
    others = {other: _spare(spare.address)}
    host = _extended(gateway, name, nowhere.refusing(), {"cluster": other}, others)
    client = gateway.connect()
    body = bytes(range(256)) * 400
    for _ in range(3):
        head = f"{method} /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head.encode() + wire.chunked(body, 10_000))
        assert client.read_response(method).body == b"spare"
    assert [request.body for request in spare.requests] == [body] * 3
    entries = gateway.daemon.wait_for_access(lambda entry: entry["host"] == host, 3)
    for entry in entries:
        assert entry["cluster"] == other
        assert entry["backend"] == f"{other}/a"
        assert entry["fallback_of"] == name
        assert entry["outcome"] == "ok"
        assert entry["reason"] is None
    assert gateway.metric("kakehi_cluster_fallbacks_total", cluster=name) == 3
    assert gateway.metric("kakehi_cluster_requests_total", cluster=other) == 3
    assert gateway.metric("kakehi_cluster_fallbacks_total", cluster=other) == 0


def test_its_own_backends_have_the_requests_again_when_they_are_back(
    gateway: Gateway, backends: Backends
) -> None:
    spare, address = backends(answer(wire.response(b"spare"))), ports.address()
    others = {"back-spare": _spare(spare.address)}
    host = _extended(gateway, "back", address, {"cluster": "back-spare"}, others)
    client = gateway.connect()
    assert client.get(host).body == b"spare"
    with RawBackend(answer(wire.response(b"own")), address=address):
        wait_until(lambda: client.get(host).body == b"own", "its own backend serves it")
        count = len(spare.requests)
        assert [client.get(host).body for _ in range(5)] == [b"own"] * 5
        assert len(spare.requests) == count


def test_a_drain_leaves_the_requests_to_another_cluster(
    gateway: Gateway, backends: Backends
) -> None:
    own, spare = backends(), backends(answer(wire.response(b"spare")))
    others = {"left-spare": _spare(spare.address)}
    host = _extended(gateway, "left", own.address, {"cluster": "left-spare"}, others)
    client, run = gateway.connect(), gateway.daemon.run_cli
    assert client.get(host).status == 200
    told = run("explain", f"http://{host}/", check=True).stdout
    assert "while no backend of left is usable, cluster left-spare serves it" in told
    assert "left/a serves it" in told
    said = run("drain", "left/a", check=True).stdout
    told = 'no backend of cluster left takes requests now: cluster "left-spare" serves its requests'
    assert told in said
    assert client.get(host).body == b"spare"
    told = run("explain", f"http://{host}/", check=True).stdout
    assert "left-spare/a serves it" in told
    run("undrain", "left/a", check=True)
    assert client.get(host).status == 200
    assert len(own.requests) == 2


def test_the_fallback_of_a_fallback_is_not_asked(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    """Two clusters may stand in for each other."""
    one, other = nowhere.refusing(), nowhere.refusing()
    pair = {"pair-b": {**_spare(other), "fallback": {"cluster": "pair-a"}}}
    host = _extended(gateway, "pair-a", one, {"cluster": "pair-b"}, pair)
    assert gateway.connect().get(host).status == 502
    (entry,) = gateway.daemon.wait_for_access(lambda entry: entry["host"] == host, 1)
    assert (entry["cluster"], entry["fallback_of"]) == ("pair-b", "pair-a")
    assert entry["outcome"] == "connect_failed"


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        ({"status": 503, "body": "back soon\n"}, 503, b"back soon\n"),
        ({"status": 200, "body": "{}", "content_type": "application/json"}, 200, b"{}"),
    ],
)
def test_an_answer_of_the_configuration(
    gateway: Gateway, nowhere: Nowhere, said: dict[str, Any], status: int, body: bytes
) -> None:
    name = f"answered-{status}"
    host = _extended(gateway, name, nowhere.refusing(), {"respond": said})
    client = gateway.connect()
    for _ in range(2):
        response = client.get(host)
        assert (response.status, response.body) == (status, body)
    (entry, _) = gateway.daemon.wait_for_access(lambda entry: entry["host"] == host, 2)
    assert (entry["status"], entry["fallback_of"]) == (status, name)
    assert entry["outcome"] == "connect_failed"
    assert gateway.metric("kakehi_cluster_fallbacks_total", cluster=name) == 2


def test_a_file_and_a_closed_connection(gateway: Gateway) -> None:
    gateway.daemon.repo.write({"pages/soon.html": "<p>Soon"})
    answers = {"page": {"file": "pages/soon.html", "status": 503}, "gone": {"close": True}}
    gateway.extend(
        clusters={name: {"fallback": {"respond": said}} for name, said in answers.items()},
        frontends={
            name: {"listeners": ["main"], "hostname": f"{name}.test", "cluster": name}
            for name in answers
        },
    )
    response = gateway.connect().get("page.test")
    assert (response.status, response.body) == (503, b"<p>Soon")
    client = gateway.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: gone.test\r\n\r\n")
    client.expect_closed()


def test_heads_are_told_in_the_version_of_whoever_serves_them(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    """A cluster of HTTP/2 whose fallback speaks HTTP/1.1, with a mirror of either version."""
    spare, shadow = backends(answer(wire.response(b"spare"))), backends()
    refusing = nowhere.refusing()
    gateway.extend(
        clusters={
            "two": {**_spare(refusing), "protocol": "h2", "fallback": {"cluster": "two-spare"}},
            "two-spare": _spare(spare.address),
            "two-shadow": _spare(shadow.address),
            "two-deaf": {**_spare(refusing), "protocol": "h2"},
        },
        frontends={
            "two": {
                "listeners": ["main"],
                "hostname": "two.test",
                "cluster": "two",
                "mirror": [{"cluster": "two-shadow"}, {"cluster": "two-deaf"}],
            }
        },
    )
    client = gateway.connect()
    for number in range(3):
        response = client.post("two.test", b"body %d" % number, "/p?q=1", "X-Own: yes")
        assert response.body == b"spare"
    for backend in (spare, shadow):
        backend.wait_for_requests(3)
        # A mirror is asked over connections of its own, which may overtake one another.
        told = sorted(backend.requests, key=lambda request: request.body)
        for number, request in enumerate(told):
            assert request.body == b"body %d" % number
            assert request.path == "/p?q=1"
            assert request.get("x-own") == b"yes"
            assert request.get("host") == b"two.test"


def test_who_is_asked_first_is_not_stood_in_for(
    gateway: Gateway, backends: Backends, nowhere: Nowhere
) -> None:
    """An answer of 200 in the place of a verdict would let everybody pass."""
    own = backends()
    gateway.extend(
        clusters={
            "asked": {**_spare(nowhere.refusing()), "fallback": {"respond": {"status": 200}}},
            "asking": _spare(own.address),
        },
        frontends={
            "asking": {
                "listeners": ["main"],
                "hostname": "asking.test",
                "cluster": "asking",
                "forward_auth": {"cluster": "asked", "path": "/verify"},
            }
        },
    )
    assert gateway.connect().get("asking.test").status == 503
    assert own.requests == []
