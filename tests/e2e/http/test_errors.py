"""What the proxy answers itself when nobody else can, and the pages that YAML puts in its place."""

from __future__ import annotations

import time

import pytest

from tests.harness import ports, wire
from tests.harness.fixtures import Nowhere
from tests.harness.gateway import Gateway, Lane
from tests.harness.rawbackend import Exchange
from tests.harness.timing import lasts


def test_a_cluster_without_backends_is_503_at_once(gateway: Gateway) -> None:
    host = gateway.cluster("no-backends", {})
    client = gateway.connect()
    started = time.monotonic()
    response = client.get(host)
    assert response.status == 503
    assert time.monotonic() - started < 2
    assert response.keeps_alive
    assert client.get(host).status == 503


def test_backends_of_weight_0_only_are_503(gateway: Gateway, lane: Lane) -> None:
    raw = {"address": lane.backend.address, "weight": 0}
    host = gateway.cluster("weightless", {"raw": raw})
    assert gateway.connect().get(host).status == 503
    assert lane.backend.connections == []


def test_a_refused_connection_is_502_at_once(gateway: Gateway, nowhere: Nowhere) -> None:
    refusing = nowhere.refusing()
    host = gateway.cluster("refusing", {"raw": refusing})
    client = gateway.connect()
    started = time.monotonic()
    for _ in range(2):
        assert client.get(host).status == 502
    assert time.monotonic() - started < 2


@pytest.mark.timed
@pytest.mark.parametrize("retries", [0, 2])
def test_a_connection_that_never_comes_is_504(
    gateway: Gateway, retries: int, nowhere: Nowhere
) -> None:
    """Whether or not another try was allowed, when there was no other backend to try."""
    unanswering = nowhere.unanswering()
    host = gateway.cluster(
        f"unanswering-{retries}",
        {"raw": unanswering},
        retries=retries,
        timeouts={"connect": "500ms"},
    )
    assert lasts(0.5, lambda: gateway.connect().get(host).status) == 504


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nX: y\r\n",
        b"HTTP/1.1 200",
    ],
    ids=["nothing", "garbage", "ssh", "tls-alert", "half-a-head", "half-a-line"],
)
def test_no_valid_response_is_502(lane: Lane, data: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.close()

    lane.backend.script = script
    client = lane.connect()
    response = client.get(lane.host)
    assert response.status == 502
    assert b"garbage" not in response.body
    assert b"SSH" not in response.body
    assert len(lane.backend.requests) == 1


def test_502_keeps_the_client_connection(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.close()
    client = lane.connect()
    assert client.get(lane.host).keeps_alive
    lane.backend.script = lane.backend.default
    assert client.get(lane.host).status == 200


def test_502_to_head_has_no_body(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.close()
    client = lane.connect()
    assert client.get(lane.host, method="HEAD").status == 502
    lane.backend.script = lane.backend.default
    assert client.get(lane.host).body == b"ok"


def test_own_error_pages(gateway: Gateway, lane: Lane) -> None:
    """A listener's page goes before the one of the settings; both before the built-in."""
    gateway.extend(
        listeners={
            "pages": {
                "address": ports.address(),
                "error_pages": {
                    404: {"body": "<h1>nothing here, caf\u00e9</h1>"},
                    502: {"body": '{"error": "bad gateway"}', "content_type": "application/json"},
                },
            }
        },
        clusters={"pages-empty": {"backends": {}}},
        frontends={
            "pages": {"listeners": ["pages"], "hostname": "pages.test", "cluster": lane.name},
            "pages-empty": {
                "listeners": ["pages"],
                "hostname": "empty.test",
                "cluster": "pages-empty",
            },
        },
    )
    client = gateway.connect("pages")
    not_found = client.get("nowhere.test")
    assert (not_found.status, not_found.reason) == (404, b"Not Found")
    assert not_found.body == "<h1>nothing here, caf\u00e9</h1>".encode()
    assert not_found.get("content-type") == b"text/html; charset=utf-8"
    assert not_found.get("content-length") == b"%d" % len(not_found.body)

    lane.backend.script = lambda exchange: exchange.close()
    bad_gateway = client.get("pages.test")
    assert bad_gateway.status == 502
    assert bad_gateway.body == b'{"error": "bad gateway"}'
    assert bad_gateway.get("content-type") == b"application/json"

    head = client.get("nowhere.test", method="HEAD")
    assert (head.status, head.body) == (404, b"")

    # A backend's own error is the backend's own page.
    lane.backend.script = lambda exchange: exchange.send(
        wire.response(b"backend's", status="404 Not Found")
    )
    assert client.get("pages.test").body == b"backend's"

    # 503 has no page on this listener.
    assert client.get("empty.test").status == 503


def test_own_error_pages_of_the_settings_change_by_commit(gateway: Gateway) -> None:
    host = gateway.cluster("settings-pages", {})
    client = gateway.connect()
    before = client.get(host)
    config = gateway.config()
    config["settings"]["error_pages"] = {503: {"body": "back soon", "content_type": "text/plain"}}
    gateway.daemon.commit({"kakehi.yaml": config})
    try:
        page = client.get(host)
        assert (page.status, page.body) == (503, b"back soon")
        assert page.get("content-type") == b"text/plain"
    finally:
        gateway.daemon.commit({"kakehi.yaml": gateway.config()})
    after = client.get(host)
    assert after.status == 503
    # The built-in page names the request, so only its beginning is the same.
    assert after.body[:20] == before.body[:20]


def test_error_responses_carry_the_generation(gateway: Gateway) -> None:
    response = gateway.connect().get("nowhere.test")
    assert response.get("kakehi-generation") == b"%d" % gateway.daemon.generation
