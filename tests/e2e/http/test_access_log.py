"""The JSON access log: one line a request, with who served it, and safe whatever is in it (T35)."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.harness import wire
from tests.harness.fixtures import Nowhere
from tests.harness.gateway import Gateway, Lane
from tests.harness.processes import wait_until


def _entries(lane: Lane, mark: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for the log entries of the requests whose path holds the mark."""
    return lane.gateway.daemon.wait_for_access(
        lambda entry: mark in json.dumps(entry, ensure_ascii=False), count
    )


def test_a_request_is_one_entry_with_who_served_it(lane: Lane) -> None:
    response = lane.get("/logged/first?x=1")
    [entry] = _entries(lane, "/logged/first")
    assert entry["status"] == 200
    assert entry["frontend"] == lane.name
    assert entry["cluster"] == lane.name
    assert entry["backend"] == f"{lane.name}/raw"
    assert entry["listener"] == "main"
    assert entry["method"] == "GET"
    assert entry["host"] == lane.host
    assert entry["request_id"].encode() == lane.backend.last.get("x-request-id")
    assert str(entry["generation"]).encode() == response.get("kakehi-generation")


@pytest.mark.parametrize(
    ("host", "status", "frontend"),
    [("nowhere.test", 404, None), ("logged-empty.test", 503, "logged-empty")],
)
def test_what_the_proxy_answers_itself_is_logged(
    gateway: Gateway, lane: Lane, host: str, status: int, frontend: str | None
) -> None:
    if status == 503:
        gateway.cluster("logged-empty", {})
    assert gateway.connect().get(host, f"/itself/{status}").status == status
    [entry] = _entries(lane, f"/itself/{status}")
    assert entry["status"] == status
    assert entry["backend"] is None
    assert entry["frontend"] == entry["cluster"] == frontend


def test_every_request_of_a_connection_is_logged_once(lane: Lane) -> None:
    client = lane.connect()
    for number in range(30):
        client.get(lane.host, f"/many/{number}/")
    entries = _entries(lane, "/many/", 30)
    assert len(entries) == 30
    assert {entry["status"] for entry in entries} == {200}
    assert len({entry["request_id"] for entry in entries}) == 30


def test_sizes_and_times_are_logged(lane: Lane) -> None:
    lane.backend.script = lambda exchange: (
        exchange.read_body(),
        exchange.send(wire.response(b"b" * 5000)),
    )
    with lane.connect() as client:
        client.post(lane.host, b"a" * 3000, "/sizes")
    [entry] = _entries(lane, "/sizes")
    assert (entry["bytes_in"], entry["bytes_out"]) == (3000, 5000)
    assert 0 < entry["upstream_us"] <= entry["duration_us"] < 20_000_000


@pytest.mark.parametrize(
    "value",
    ['quote"', "back\\slash", "\\u0022", "caf\xe9", "\xff\xfe", "{}", "a\tb", "<script>", "'"],
)
def test_t35_values_of_clients_cannot_break_a_line(lane: Lane, value: str) -> None:
    """Whatever a client puts into what is logged, each line stays one JSON object."""
    before = len(lane.gateway.daemon.access_entries())
    fields = [f"{name}: {value}" for name in ("User-Agent", "Referer", "X-Forwarded-For")]
    client = lane.connect()
    response = client.get(lane.host, "/escaped", *fields)
    assert response.status == 200
    assert client.get(lane.host, "/sentinel-of-escaped").status == 200
    lane.gateway.daemon.wait_for_access(
        lambda entry: (
            "/sentinel-of-escaped" in json.dumps(entry)
            and entry["request_id"].encode() == lane.backend.last.get("x-request-id")
        )
    )
    entries = lane.gateway.daemon.access_entries()[before:]
    assert sum("/escaped" in json.dumps(entry) for entry in entries) == 1
    if value.isascii():
        assert value in [entry["user_agent"] for entry in entries]


@pytest.mark.parametrize(
    "path", ['/inject"quote', "/inject\\back", "/inject%0a%22x", "/inject{}", "/inject'"]
)
def test_t35_targets_cannot_break_a_line(lane: Lane, path: str) -> None:
    status = lane.get(path).status
    assert status in (200, 400)
    lane.get("/sentinel-of-targets")
    lane.gateway.daemon.wait_for_access(
        lambda entry: (
            "/sentinel-of-targets" in json.dumps(entry)
            and entry["request_id"].encode() == lane.backend.last.get("x-request-id")
        )
    )
    assert all(isinstance(entry, dict) for entry in lane.gateway.daemon.access_entries())


def test_a_refused_target_is_logged_with_its_host(lane: Lane) -> None:
    client = lane.connect()
    client.send(b"GET /refused/host/%00 HTTP/1.1\r\nA: b\r\nhost:  named.test \r\n\r\n")
    assert client.read_response().status == 400
    [entry] = _entries(lane, "/refused/host/%00")
    assert (entry["method"], entry["host"]) == ("GET", "named.test")


def test_t35_secrets_are_not_logged(lane: Lane) -> None:
    lane.get("/secrets", "Authorization: Bearer hunter2", "Cookie: session=hunter2")
    _entries(lane, "/secrets")
    assert "hunter2" not in lane.gateway.daemon.access_log.read_text()


def test_a_request_that_failed_upstream_is_logged_as_answered(lane: Lane) -> None:
    lane.backend.script = lambda exchange: exchange.close()
    assert lane.get("/failed-upstream").status == 502
    [entry] = _entries(lane, "/failed-upstream")
    assert entry["status"] == 502
    assert entry["backend"] == f"{lane.name}/raw"


def test_the_backend_that_served_after_a_retry_is_logged(
    gateway: Gateway, lane: Lane, nowhere: Nowhere
) -> None:
    refusing = nowhere.refusing()
    host = gateway.cluster("logged-retry", {"dead": refusing, "alive": lane.backend.address})
    client = gateway.connect()
    for _ in range(2):
        assert client.get(host, "/logged-retry").status == 200
    entries = _entries(lane, '"/logged-retry', 2)
    assert {entry["backend"] for entry in entries} == {"logged-retry/alive"}


def test_a_log_that_was_moved_away_is_opened_anew_on_sigusr1(lane: Lane) -> None:
    """What logrotate does: rename, then signal; every line is in the old file or in the new one."""
    daemon = lane.gateway.daemon
    assert lane.get("/rotated/before").status == 200
    _entries(lane, "/rotated/before")
    old = daemon.access_log.with_suffix(".1")
    daemon.access_log.rename(old)
    try:
        os.kill(daemon.process.pid, signal.SIGUSR1)

        def is_new() -> bool:
            assert lane.get("/rotated/after").status == 200
            return daemon.access_log.exists() and "/rotated/after" in daemon.access_log.read_text()

        wait_until(is_new, "a line in the new file")
    finally:
        # The other tests read one file from its start.
        rest = daemon.access_log.read_text() if daemon.access_log.exists() else ""
        with old.open("a") as log:
            log.write(rest)
        old.rename(daemon.access_log)
        os.kill(daemon.process.pid, signal.SIGUSR1)
