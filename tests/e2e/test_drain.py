"""What a commit or an operator takes out of service gets no new request, and ends the old (D12)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes, websocket, wire
from tests.harness.load import OpenLoop
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection, Truncated
from tests.harness.site import Site, refuses

OLD_CLIENTS = 24
TIMEOUT = 8


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, ["red", "blue"]) as made:
        yield made


@pytest.fixture
def old() -> Iterator[RawBackend]:
    """The backend that is taken out of service: it answers `old`, and `/slow` when told to."""

    def script(exchange: Exchange) -> None:
        if exchange.request.path == "/echo":
            websocket.serve_echo(exchange)
            return
        if exchange.request.path == "/slow":
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            exchange.wait_for_go()
            exchange.send(b"last.")
            return
        exchange.send(wire.response(b"old"))

    with RawBackend(script) as backend:
        yield backend


def removed_from_its_cluster(site: Site, old: RawBackend) -> tuple[Any, Any]:
    return (
        site.document({"main": [old.address, "red"]}, {"main": "main"}),
        site.document({"main": ["red"]}, {"main": "main"}),
    )


def weight_zero(site: Site, old: RawBackend) -> tuple[Any, Any]:
    before = site.document({"main": [old.address, "red"]}, {"main": "main"})
    after = site.document({"main": [old.address, "red"]}, {"main": "main"})
    after["clusters"]["main"]["backends"]["b0"]["weight"] = 0
    return before, after


def address_changed(site: Site, old: RawBackend) -> tuple[Any, Any]:
    return (
        site.document({"main": [old.address]}, {"main": "main"}),
        site.document({"main": ["red"]}, {"main": "main"}),
    )


def frontend_moved(site: Site, old: RawBackend) -> tuple[Any, Any]:
    clusters = {"left": [old.address], "right": ["red"]}
    return (
        site.document(clusters, {"main": "left", "also": "left"}),
        site.document(clusters, {"main": "right", "also": "left"}),
    )


def cluster_removed(site: Site, old: RawBackend) -> tuple[Any, Any]:
    return (
        site.document({"left": [old.address], "right": ["red"]}, {"main": "left"}),
        site.document({"right": ["red"]}, {"main": "right"}),
    )


def renamed(site: Site, old: RawBackend) -> tuple[Any, Any]:
    """The frontend is another one now, which matches the same and leads elsewhere."""
    after = site.document({"left": [old.address], "right": ["red"]}, {"main": "right"})
    after["frontends"] = {"other": after["frontends"]["main"]}
    return site.document({"left": [old.address], "right": ["red"]}, {"main": "left"}), after


WAYS: list[Callable[[Site, RawBackend], tuple[Any, Any]]] = [
    removed_from_its_cluster,
    weight_zero,
    address_changed,
    frontend_moved,
    cluster_removed,
    renamed,
]


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("removal"), ["red"]) as made:
        made.start({"kakehi.yaml": made.document({"right": ["red"]}, {"main": "right"})})
        yield made


@pytest.fixture
def undrained(shared_site: Site) -> Iterator[Site]:
    """The shared site; what a test drains takes requests again behind it."""
    yield shared_site
    for each in shared_site.daemon.ask("status")["drains"]:
        shared_site.daemon.ask("undrain", backend=each["backend"])


@pytest.fixture(scope="module")
def shared_load(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLoop]:
    directory = tmp_path_factory.mktemp("load")
    with OpenLoop(
        shared_site.address, ["main.test"], directory, rate=200, connections=8, fresh=2
    ) as made:
        yield made


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_once_done_no_request_reaches_the_old_place_and_those_in_flight_end(
    shared_site: Site,
    shared_load: OpenLoop,
    old: RawBackend,
    way: Callable[..., tuple[Any, Any]],
) -> None:
    site = shared_site
    before, after = way(site, old)
    site.commit({"kakehi.yaml": before}, "before")
    with ExitStack() as stack:
        kept = [stack.enter_context(Connection(site.address)) for _ in range(OLD_CLIENTS)]
        for client in kept:
            client.get("main.test")
        # Two of them have a request under way at the old backend, on which worker ever.
        slow = [stack.enter_context(Connection(site.address)) for _ in range(2)]
        for client in slow:
            start_slow(client, old)
        load = shared_load
        load.wait_for(20)
        site.commit({"kakehi.yaml": after}, "after")
        done = time.monotonic()

        reached = request_count(old)
        for client in kept:
            assert client.get("main.test").body == b"red"
        assert site.everywhere("main.test") == {"red"}
        load.wait_for(60)
        assert {sample.body for sample in load.since(done)} == {"red"}
        assert request_count(old) == reached
        old.go.set()
        for client in slow:
            assert client.read_exactly(5) == b"last."
            # The connection that carried it is a kept-alive one like all others.
            assert client.get("main.test").body == b"red"
        load.wait_for(10)
        assert load.failures == []
        assert load.closed == []
        if way is not frontend_moved and way is not renamed and way is not weight_zero:
            old.wait_until(
                lambda: all(connection.ended for connection in old.connections),
                "the proxy has closed its connections to a backend that is gone",
            )


def start_slow(client: Connection, old: RawBackend) -> None:
    """A request that the old backend holds; repeated until it is that one that got it."""
    before = sum(request.path == "/slow" for request in old.requests)
    for _ in range(50):
        client.send(b"GET /slow HTTP/1.1\r\nHost: main.test\r\n\r\n")
        head = client.read_head()
        if head.get("content-length") == b"10":
            assert client.read_exactly(5) == b"first"
            assert sum(request.path == "/slow" for request in old.requests) == before + 1
            return
        client.read_exactly(int(head.get("content-length") or b"0"))
    raise AssertionError("the old backend gets no request")


def request_count(backend: RawBackend) -> int:
    backend.settle()
    return len(backend.requests)


def test_what_does_not_end_in_time_is_ended(site: Site, old: RawBackend) -> None:
    site.settings["drain_timeout"] = "1s"
    before, after = removed_from_its_cluster(site, old)
    site.start({"kakehi.yaml": before})
    with Connection(site.address) as slow, Connection(site.address) as tunnel:
        start_slow(slow, old)
        open_tunnel(tunnel)
        site.commit({"kakehi.yaml": after})
        began = time.monotonic()
        with pytest.raises(Truncated):
            slow.read_exactly(5)
        assert tunnel.read_to_close() == b""
        assert 0.5 < time.monotonic() - began < 15
    old.go.set()
    assert site.everywhere("main.test") == {"red"}
    old.wait_until(lambda: all(each.ended for each in old.connections), "nothing is left there")


def test_a_removed_listener_serves_the_connections_that_it_has(
    undrained: Site, old: RawBackend
) -> None:
    site = undrained
    extra = ports.address()
    listeners = {"main": site.address, "extra": extra}
    clusters = {"main": [old.address]}
    both = site.document(clusters, {"main": "main"}, listeners=listeners)
    site.commit({"kakehi.yaml": both})
    with Connection(extra) as slow, Connection(extra) as idle, Connection(extra) as late:
        assert idle.get("main.test").body == late.get("main.test").body == b"old"
        start_slow(slow, old)
        site.commit({"kakehi.yaml": site.document(clusters, {"main": "main"})})
        assert refuses(extra)
        # What has crossed the commit is answered by the routes that were, and was the last.
        crossed = late.get("main.test")
        assert (crossed.body, crossed.get("connection")) == (b"old", b"close")
        late.expect_closed()
        old.go.set()
        assert slow.read_exactly(5) == b"last."
        # Nothing can be asked of a listener that is gone: idle connections are closed.
        idle.expect_closed()
        slow.expect_closed()
    assert site.everywhere("main.test") == {"old"}


def test_a_connection_without_a_request_is_kept_for_as_long_as_is_said(site: Site) -> None:
    """Then whoever asks every few seconds never sends a request into the end of its connection."""
    site.settings["drain_idle_timeout"] = "4s"
    extra = ports.address()
    clusters, frontends = {"main": ["red"]}, {"main": "main"}
    listeners = {"main": site.address, "extra": extra}
    both = site.document(clusters, frontends, listeners=listeners)
    site.start({"kakehi.yaml": both})
    with Connection(extra) as asks, Connection(extra) as idle:
        assert asks.get("main.test").keeps_alive
        assert idle.get("main.test").keeps_alive
        site.commit({"kakehi.yaml": site.document(clusters, frontends)})
        time.sleep(2)  # A second is the default.
        crossed = asks.get("main.test")
        assert (crossed.status, crossed.get("connection")) == (200, b"close")
        asks.expect_closed()
        idle.expect_closed()


# Other names


def renaming(document: Any, kind: str) -> Any:
    """The document with all of a kind under other names, and those who name them."""
    cluster, names = ("other", "n") if kind == "cluster" else ("main", "b")
    [backends] = [each["backends"] for each in document["clusters"].values()]
    if kind == "backend":
        names = "n"
    frontend = {**document["frontends"]["main"], "cluster": cluster}
    listener = "other" if kind == "listener" else "main"
    return {
        **document,
        "listeners": {listener: document["listeners"]["main"]},
        "clusters": {
            cluster: {
                "backends": {
                    f"{names}{number}": each for number, each in enumerate(backends.values())
                }
            }
        },
        "frontends": {
            "other" if kind == "frontend" else "main": {**frontend, "listeners": [listener]}
        },
    }


def test_a_rename_cuts_no_request(site: Site, old: RawBackend, tmp_path: Path) -> None:
    before = site.document({"main": [old.address, "red"]}, {"main": "main"})
    site.start({"kakehi.yaml": before})
    for kind in ("backend", "cluster", "frontend", "listener"):
        rename(site, old, before, kind, tmp_path / kind)
        if kind != "listener":
            site.commit({"kakehi.yaml": before}, "the name of before")


def rename(site: Site, old: RawBackend, before: Any, kind: str, directory: Path) -> None:
    directory.mkdir()
    old.go.clear()
    with (
        Connection(site.address) as slow,
        Connection(site.address) as tunnel,
        Connection(site.address) as idle,
        OpenLoop(site.address, ["main.test"], directory, rate=200, connections=8, fresh=2) as load,
    ):
        assert idle.get("main.test").status == 200
        start_slow(slow, old)
        open_tunnel(tunnel)
        load.wait_for(20)
        site.repo.write({"kakehi.yaml": renaming(before, kind)})
        [effect] = [
            each["effect"]
            for each in site.daemon.json("plan", str(site.repo.directory))["changes"]
            if (each["kind"], each["action"]) == (kind, "add") and not each["name"].endswith("1")
        ]
        site.commit({"kakehi.yaml": renaming(before, kind)}, "another name")
        assert site.everywhere("main.test") == {"old", "red"}
        load.wait_for(60)
        load.stop()
        assert load.failures == []
        old.go.set()
        assert slow.read_exactly(5) == b"last."
        tunnel.send(websocket.frame(b"as before", masked=True))
        assert websocket.read_frame(tunnel.read_exactly) == (websocket.BINARY, b"as before")
        # A plan has told what becomes of connections.
        if kind == "listener":
            idle.expect_closed()
            assert "open connections of the old name" in effect
        else:
            assert idle.get("main.test").status == 200
            assert load.closed == []


def open_tunnel(client: Connection) -> None:
    """A tunnel to the old backend, which is not the only one."""
    for _ in range(50):
        client.send(websocket.handshake("main.test", "/echo"))
        if client.read_response().status == 101:
            return
    raise AssertionError("no backend switches protocols")


# kakehi drain


def test_drain_wait_returns_when_the_last_request_has_ended(
    undrained: Site, old: RawBackend, tmp_path: Path
) -> None:
    site = undrained
    document, _ = removed_from_its_cluster(site, old)
    site.commit({"kakehi.yaml": document})
    generation = site.running()
    assert site.everywhere("main.test") <= {"old", "red"}
    with (
        Connection(site.address) as first,
        Connection(site.address) as second,
        OpenLoop(site.address, ["main.test"], tmp_path, rate=200, connections=8, fresh=2) as load,
        ThreadPoolExecutor(1) as pool,
    ):
        start_slow(first, old)
        start_slow(second, old)
        drain = pool.submit(site.daemon.run_cli, "drain", "main/b0", "--wait", "--timeout", "60s")
        processes.wait_until(
            lambda: [each["active"] for each in site.daemon.ask("status")["drains"]] == [2],
            "both requests of the drained backend are counted",
        )
        drained = time.monotonic()
        reached = request_count(old)
        load.wait_for(100)
        assert {sample.body for sample in load.since(drained)} == {"red"}
        assert site.everywhere("main.test") == {"red"}
        assert request_count(old) == reached
        assert not drain.done()

        old.go.set()
        for client in (first, second):
            assert client.read_exactly(5) == b"last."
        done = drain.result(60)
        assert done.returncode == 0, done
        load.stop()
        assert load.failures == []
        assert load.closed == []
    # An overlay is no configuration.
    assert site.running() == generation
    assert site.daemon.json("plan", str(site.repo.directory))["changes"] == []
    site.daemon.run_cli("undrain", "main/b0", check=True)
    processes.wait_until(lambda: "old" in site.everywhere("main.test"), "it takes requests again")


def test_drain_wait_waits_for_a_backend_whose_address_has_changed(
    site: Site, old: RawBackend
) -> None:
    """The name stood for another address before, where requests may still be under way, too."""

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        exchange.wait_for_go()
        exchange.send(b"last.")

    def in_flight() -> list[int]:
        return [each["active"] for each in site.daemon.ask("status")["drains"]]

    with (
        RawBackend(script) as before,
        ThreadPoolExecutor(1) as pool,
    ):
        site.start({"kakehi.yaml": site.document({"main": [before.address]}, {"main": "main"})})
        with Connection(site.address) as first, Connection(site.address) as second:
            start_slow(first, before)
            document, _ = removed_from_its_cluster(site, old)
            site.commit({"kakehi.yaml": document})
            start_slow(second, old)
            drain = pool.submit(site.daemon.run_cli, "drain", "main/b0", "--wait")
            processes.wait_until(lambda: in_flight() == [2], "both requests are counted")
            before.go.set()
            assert first.read_exactly(5) == b"last."
            processes.wait_until(lambda: in_flight() == [1], "one of them has ended")
            assert not drain.done()
            old.go.set()
            assert second.read_exactly(5) == b"last."
            done = drain.result(60)
            assert done.returncode == 0, done


def test_drain_wait_says_so_when_a_request_does_not_end(undrained: Site, old: RawBackend) -> None:
    site = undrained
    document, _ = removed_from_its_cluster(site, old)
    site.commit({"kakehi.yaml": document})
    with Connection(site.address) as client:
        start_slow(client, old)
        done = site.daemon.run_cli("drain", "main/b0", "--wait", "--timeout", "500ms")
        assert done.returncode == TIMEOUT, done
        assert "1 request" in done.stderr
        assert site.everywhere("main.test") == {"red"}
        old.go.set()
        assert client.read_exactly(5) == b"last."
        site.daemon.run_cli("drain", "main/b0", "--wait", check=True)


def test_a_drain_outlives_commits_workers_and_the_daemon(site: Site, old: RawBackend) -> None:
    document, _ = removed_from_its_cluster(site, old)
    site.start({"kakehi.yaml": document})
    site.daemon.run_cli("drain", "main/b0", "--wait", check=True)
    reached = request_count(old)
    heavier = site.document({"main": [old.address, "red"]}, {"main": "main"})
    heavier["clusters"]["main"]["backends"]["b0"]["weight"] = 1000
    site.commit({"kakehi.yaml": heavier})
    assert site.everywhere("main.test") == {"red"}
    site.daemon.leave()
    site.daemon.return_()
    assert site.everywhere("main.test") == {"red"}
    site.daemon.kill()
    site.daemon.await_end()
    site.daemon.return_()
    assert site.everywhere("main.test") == {"red"}
    assert request_count(old) == reached


def test_a_drain_says_which_worker_hangs(site: Site) -> None:
    """It may have connections that it reads again at any time."""
    site.start({"kakehi.yaml": site.document({"main": ["red", "blue"]}, {"main": "main"})})
    pid = site.worker_pids()[0]
    processes.stop(pid)
    try:
        done = site.daemon.run_cli("drain", "main/b0")
    finally:
        processes.resume(pid)
    assert done.returncode == TIMEOUT, done.stdout
    assert f"worker 0 (process {pid}) does not hear of it: it does not answer" in done.stderr


def test_a_drain_of_nothing_is_an_error(undrained: Site) -> None:
    site = undrained
    site.commit({"kakehi.yaml": site.document({"main": ["red"]}, {"main": "main"})})
    done = site.daemon.run_cli("drain", "main/nobody", "--wait")
    assert done.returncode not in (0, TIMEOUT)
    assert "main/nobody" in done.stderr
    assert site.everywhere("main.test") == {"red"}


def test_a_drain_that_no_client_notices_does_not_say_503(undrained: Site) -> None:
    site = undrained
    document = site.document({"main": ["red"], "shadow": ["red"]}, {"main": "main"})
    (frontend,) = document["frontends"].values()
    frontend["mirror"] = {"cluster": "shadow"}
    site.commit({"kakehi.yaml": document})
    for backend, means in (
        ("shadow/b0", "no client notices"),
        ("main/b0", "its frontends get 503"),
    ):
        done = site.daemon.run_cli("drain", backend)
        cluster = backend.partition("/")[0]
        assert f"no backend of cluster {cluster} takes requests now: {means}" in done.stdout, done


def test_a_drain_that_ends_while_it_is_waited_for_is_no_success(
    undrained: Site, old: RawBackend
) -> None:
    """Whoever waits would reboot a machine that serves."""
    site = undrained
    document, _ = removed_from_its_cluster(site, old)
    site.commit({"kakehi.yaml": document})
    with Connection(site.address) as client, ThreadPoolExecutor(1) as pool:
        start_slow(client, old)

        def waiting(*arguments: str) -> Any:
            return pool.submit(site.daemon.run_cli, "drain", *arguments, "--wait")

        def is_drained() -> bool:
            return len(site.daemon.ask("status")["drains"]) > 0

        taken_back = waiting("main/b0")
        processes.wait_until(is_drained, "it is drained")
        site.daemon.run_cli("undrain", "main/b0", check=True)
        done = taken_back.result(20)
        assert done.returncode == TIMEOUT, done
        assert "main/b0 takes requests again: undrained meanwhile" in done.stderr
        assert done.stdout == ""

        # At an address there are several, of which one is enough.
        document["clusters"]["other"] = {"backends": {"c0": {"address": old.address}}}
        site.commit({"kakehi.yaml": document})
        taken_back = waiting(old.address, "--json")
        processes.wait_until(is_drained, "both are drained")
        site.daemon.run_cli("undrain", "other/c0", check=True)
        done = taken_back.result(20)
        told = json.loads(done.stdout)
        assert (done.returncode, told["drained"]) == (TIMEOUT, False)
        assert told["ended"] == [{"backend": "other/c0", "how": "undrained"}]

        done = waiting("main/b0", "--for", "1s").result(20)
        assert done.returncode == TIMEOUT, done
        assert "main/b0 takes requests again: its time is over" in done.stderr
        assert "the drain ends by itself after 1s, before --timeout (30s)" in done.stderr
    done = site.daemon.run_cli("drain", "main/b0", "--for", "1ms")
    # It is over just before it is told, or just behind; it is never told as one for good.
    assert (done.returncode == TIMEOUT) == (done.stdout == ""), done
    assert "until it is undrained" not in done.stdout
