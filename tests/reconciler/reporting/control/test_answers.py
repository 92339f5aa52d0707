"""What a running daemon answers, asked through its control socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.ports import split
from tests.reconciler.live import Shop, eventually, shop


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop")) as made:
        yield made


def ask(running: Shop, request: str, **fields: Any) -> dict[str, Any]:
    """The whole response."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(running.daemon.runtime_dir / "control.sock"))
        connection.sendall(json.dumps({"request": request, **fields}).encode() + b"\n")
        with connection.makefile("rb") as answer:
            found: dict[str, Any] = json.loads(answer.readline())
    return found


def result(running: Shop, request: str, **fields: Any) -> dict[str, Any]:
    response = ask(running, request, **fields)
    assert response["ok"], response
    found: dict[str, Any] = response["result"]
    return found


def error(running: Shop, request: str, **fields: Any) -> tuple[str, str]:
    response = ask(running, request, **fields)
    assert not response["ok"]
    return response["error"]["code"], response["error"]["message"]


def changed(running: Shop) -> dict[str, str]:
    return {"shop.yaml": json.dumps(running.files(1)["shop.yaml"])}


def test_a_plan_names_what_would_change_and_changes_nothing(running: Shop) -> None:
    before = result(running, "status")
    answered = result(running, "plan", files=changed(running))
    (change,) = answered["plan"]["changes"]
    assert (change["action"], change["kind"], change["name"]) == ("update", "backend", "shop/one")
    assert change["fields"]["address"] == {
        "from": running.backends[0].address,
        "to": running.backends[1].address,
    }
    assert change["source"]["file"] == "shop.yaml"
    assert "open connection" in change["effect"]
    assert answered["plan"]["commit"] is None
    assert answered["base"] == {"commit": before["commit"], "generation": before["generation"]}
    after = result(running, "status")
    assert after["digest"] == before["digest"]
    assert running.served_by() == 0


def test_a_plan_of_nothing_is_empty(running: Shop) -> None:
    assert result(running, "plan")["plan"]["changes"] == []
    assert result(running, "plan", commit="HEAD")["plan"]["changes"] == []


def test_a_plan_counts_live_connections(running: Shop) -> None:
    assert running.served_by() == 0
    answered = result(running, "plan", files=changed(running))
    effect = answered["plan"]["changes"][0]["effect"]
    assert "drains 1 open connection" in effect or "drains 2 open connections" in effect


def test_a_plan_counts_clients_and_requests(running: Shop) -> None:
    files = {**running.files(0)["listeners.yaml"], **running.files(0)["shop.yaml"]}
    files["listeners"]["public"]["address"] = "127.0.0.1:1"
    files["clusters"]["shop"]["retries"] = 1
    files["frontends"]["web"]["hostname"] = "shop.test"
    edited = {"listeners.yaml": None, "shop.yaml": json.dumps(files)}

    def clients() -> int:
        return sum(worker["connections"] for worker in result(running, "status")["workers"])

    eventually(lambda: clients() == 0)
    with socket.create_connection(split(running.listener)):
        eventually(lambda: clients() == 1)
        planned = result(running, "plan", files=edited)["plan"]["changes"]
    effects = {change["kind"]: change["effect"] for change in planned}
    assert "drains 1 open connection on the old" in effects["listener"]
    assert effects["cluster"].endswith("none is in flight")
    assert effects["frontend"].endswith("none is in flight")


def test_a_plan_of_a_commit_on_another_branch(running: Shop) -> None:
    repo = running.repo
    repo.git("checkout", "-q", "-b", "next")
    sha = repo.commit({"shop.yaml": running.files(1)["shop.yaml"]})
    repo.git("checkout", "-q", "main")
    for name in ("next", sha, sha[:8]):
        answered = result(running, "plan", commit=name)
        assert answered["plan"]["commit"] == sha
        assert [change["name"] for change in answered["plan"]["changes"]] == ["shop/one"]
    back = json.dumps(running.files(0)["shop.yaml"])
    assert (
        result(running, "plan", commit="next", files={"shop.yaml": back})["plan"]["changes"] == []
    )


def test_a_plan_with_errors_has_all_of_them(running: Shop) -> None:
    text = "clusters: {x: {retires: 1}}\n"
    text += "frontends: {y: {hostname: y, listeners: [public], cluster: z}}\n"
    answered = result(running, "plan", files={"new.yaml": text})
    assert answered["plan"] is None
    assert [each["line"] for each in answered["diagnostics"]] == [1, 2]
    assert all("new.yaml:" in each["rendered"] for each in answered["diagnostics"])


def test_a_plan_says_what_workers_would_do(running: Shop) -> None:
    answered = result(running, "plan", files={"settings.yaml": "settings: {workers: 7}"})
    texts = [each["message"] for each in answered["plan"]["warnings"]]
    assert "workers has no effect: the daemon was started with --workers 2" in texts
    (change,) = answered["plan"]["changes"]
    assert change["effect"].startswith("starts and drains no worker: their number stays")


def test_a_plan_of_what_is_not_there(running: Shop) -> None:
    code, message = error(running, "plan", commit="nonsense")
    assert (code, "names no commit" in message) == ("usage", True)


def test_what_runs_is_shown(running: Shop) -> None:
    every = result(running, "show")["entities"]
    assert [each["kind"] for each in every] == [
        "settings",
        "listener",
        "cluster",
        "backend",
        "frontend",
    ]
    (one,) = result(running, "show", kind="backend", entity="shop/one")["entities"]
    assert one["value"]["address"] == running.backends[0].address
    assert one["source"]["file"] == "shop.yaml"
    assert error(running, "show", kind="route")[0] == "usage"
    assert error(running, "show", kind="frontend", entity="gone")[0] == "not_found"


def test_numbers_that_are_shown_have_their_units(running: Shop) -> None:
    (cluster,) = running.daemon.json("show", "cluster/shop")["entities"]
    assert cluster["units"]["timeouts.connect"] == "ms"
    assert cluster["units"]["limits.head_bytes"] == "bytes"
    assert "retries" not in cluster["units"]
    for path in cluster["units"]:
        value: Any = cluster["value"]
        for step in path.split("."):
            value = value[step]
        assert isinstance(value, int)


def test_drains_are_checked(running: Shop) -> None:
    assert error(running, "drain", backend="shop/gone")[0] == "not_found"
    assert error(running, "drain", backend="shop/one", ttl_s=-1)[0] == "usage"
    assert error(running, "undrain", backend="shop/one")[0] == "not_found"
    drained = result(running, "drain", backend="shop/one", owner="me", ttl_s=100, wait=True)
    assert (drained["drained"], drained["active"], drained["timed_out"]) == (True, 0, False)
    (listed,) = result(running, "status")["drains"]
    assert (listed["owner"], listed["active"]) == ("me", 0)
    assert running.get() == 503
    assert not result(running, "undrain", backend="shop/one")["drained"]
    assert running.get() == 200


def test_a_second_owner_is_told_of_the_first(running: Shop) -> None:
    first = result(running, "drain", backend="shop/one", owner="alice", ttl_s=60.0)
    assert (first["others"], first["backends"]) == ([], ["shop/one"])
    assert result(running, "drain", backend="shop/one", owner="alice", ttl_s=60.0)["others"] == []
    second = result(running, "drain", backend="shop/one", owner="bob")
    assert [each["owner"] for each in second["others"]] == ["alice"]
    said = running.daemon.run_cli("drain", "shop/one", "--owner", "carol").stderr
    assert "note: shop/one was drained by bob since 2" in said
    assert "until it is undrained; now it is carol's" in said
    result(running, "undrain", backend="shop/one")


def test_drains_stand_in_history_and_are_no_outcome_of_the_commit(running: Shop) -> None:
    commit = running.daemon.status()["commit"]
    result(running, "drain", backend="shop/one", owner="alice", ttl_s=0.2)
    eventually(lambda: running.daemon.status()["drains"] == [])
    result(running, "drain", backend="shop/one", owner="bob")
    undrained = running.daemon.run_cli("undrain", "shop/one", "--owner", "mallory")
    assert undrained.returncode == 0
    assert running.daemon.run_cli("undrain", "shop/one", "--owner", " ").returncode == 64
    entries = running.daemon.json("history")["drains"][:4]
    told = [(each["outcome"], each["owner"], each["backends"]) for each in entries]
    assert told == [
        ("undrained", "mallory", ["shop/one"]),
        ("drained", "bob", ["shop/one"]),
        ("expired", "alice", ["shop/one"]),
        ("drained", "alice", ["shop/one"]),
    ]
    assert [each.get("drained_by") for each in entries] == ["bob", None, None, None]
    assert "shop/one (mallory, of the drain of bob)" in running.daemon.run_cli("history").stdout
    assert {each["commit"] for each in entries} == {commit}
    assert "expired" in running.daemon.run_cli("history").stdout
    assert running.daemon.run_cli("wait", "--commit", commit).returncode == 0


def test_an_address_stands_for_all_backends_there(running: Shop) -> None:
    addresses = {
        each["name"]: each["value"]["address"]
        for each in running.daemon.json("show", "backend")["entities"]
    }
    one = addresses["shop/one"]
    there = [name for name, each in addresses.items() if each == one]
    assert result(running, "drain", backend=one)["backends"] == there
    assert result(running, "undrain", backend=one)["backends"] == there
    host = one.partition(":")[0]
    done = running.daemon.run_cli("drain", host)
    assert done.returncode == 0, done.stderr
    drained = {each["backend"] for each in running.daemon.status()["drains"]}
    assert drained == {name for name, each in addresses.items() if each.startswith(f"{host}:")}
    assert "no backend of cluster shop takes requests now" in done.stdout
    assert running.daemon.run_cli("undrain", host).returncode == 0
    assert running.daemon.status()["drains"] == []
    assert error(running, "drain", backend="192.0.2.1")[0] == "not_found"
    assert running.daemon.run_cli("drain", "shop").returncode == 64


def test_waiting_for_a_drain_lasts_as_long_as_a_request(running: Shop) -> None:
    backend = running.backends[0]
    backend.script = lambda exchange: (
        exchange.wait_for_go(),
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    )[0]
    client = threading.Thread(target=running.get)
    count = len(backend.requests)
    client.start()
    backend.wait_for_requests(count + 1)
    try:
        late = result(running, "drain", backend="shop/one", wait=True, timeout_s=0.3)
        assert (late["timed_out"], late["active"]) == (True, 1)
        backend.go.set()
        done = result(running, "drain", backend="shop/one", wait=True, timeout_s=10)
        assert (done["timed_out"], done["active"]) == (False, 0)
    finally:
        backend.go.set()
        client.join()
        backend.script = backend.default
        result(running, "undrain", backend="shop/one")


def test_waiting_ends_when_it_must(running: Shop) -> None:
    head = running.repo.head()
    assert result(running, "wait", commit=head)["outcome"] == "applied"
    assert result(running, "wait", commit="HEAD")["outcome"] == "applied"
    began = time.monotonic()
    unknown = result(running, "wait", commit="e" * 40, timeout_s=30)
    assert unknown["outcome"] == "timeout"
    assert time.monotonic() - began < 5
    assert unknown["message"].endswith(" has no commit " + "e" * 12), unknown
    began = time.monotonic()
    code, message = error(running, "wait", commit="nonsense", timeout_s=30)
    assert (code, "'nonsense' names no commit" in message) == ("usage", True)
    assert time.monotonic() - began < 5


def test_what_a_url_leads_to(running: Shop) -> None:
    found = result(running, "explain", url=f"http://{running.listener}/")
    assert found["frontend"]["name"] == "web"
    assert error(running, "explain", url="ftp://x/")[0] == "usage"


def test_history_begins_with_the_newest(running: Shop) -> None:
    entries = result(running, "history", limit=1)["entries"]
    assert [entry["outcome"] for entry in entries] == ["applied"]
    assert entries[0]["change_count"] == len(entries[0]["changes"]) == 5
    assert entries[0]["duration_ms"] > 0


def test_credentials_are_shown_to_nobody(running: Shop) -> None:
    headers = {"Authorization": "Bearer s3cr3t", "X-Api-Key": {"regex": "s3cr3t"}, "X-Tier": "gold"}
    shop = running.files(0)["shop.yaml"]
    before = running.repo.head()
    shop["frontends"]["admin"] = {**shop["frontends"]["web"], "headers": headers}
    planned = result(running, "plan", files={"shop.yaml": json.dumps(shop)})
    running.daemon.commit({"shop.yaml": shop})
    try:
        shown = result(running, "show", kind="frontend", entity="admin")
        told = {
            "plan": planned,
            "show": shown,
            "history": result(running, "history", limit=1),
            "explain": result(running, "explain", url=f"http://{running.listener}/"),
        }
        for name, answered in told.items():
            text = json.dumps(answered)
            assert "(secret)" in text, (name, text)
            assert "s3cr3t" not in text, (name, text)
        (entity,) = shown["entities"]
        assert entity["value"]["headers"]["x-tier"] == {"exact": "gold"}
    finally:
        running.repo.git("reset", "-q", "--hard", before)
        running.daemon.wait(before)
