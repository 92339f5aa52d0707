"""A hundred commits under load: whoever is not concerned does not notice one (D01, D02, D11)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes, websocket, wire
from tests.harness.load import OpenLoop, Wrk
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.site import Site, refuses

COMMITS = 100
WEBSOCKETS = 100
DOWNLOAD_BYTES = 1 << 30
_BLOCK = 1 << 20
_PATTERN = bytes(range(256)) * (_BLOCK // 256)
# So many blocks are read a commit: the download begins before the first and outlives the last.
_BLOCKS_A_COMMIT = 10


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, ["steady", "red", "blue", "green"]) as made:
        yield made


class Download:
    """1 GiB through the proxy, block by block, each of which says where it belongs."""

    def __init__(self, address: str, host: str) -> None:
        self.received = 0
        self._allowed = threading.Semaphore(0)
        self.fault = ""
        self._connection = Connection(address)
        self._host = host
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001  # told to the test, whatever it is
            self.fault = f"{type(error).__name__}: {error} after {self.received} bytes"

    def _read(self) -> None:
        with self._connection as connection:
            connection.send(f"GET /big HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
            head = connection.read_head()
            assert head.status == 200
            assert head.get("content-length") == str(DOWNLOAD_BYTES).encode()
            while self.received < DOWNLOAD_BYTES:
                assert self._allowed.acquire(timeout=60), "nobody asks for more"
                block = connection.read_exactly(_BLOCK)
                assert block == download_block(self.received // _BLOCK), "another block's bytes"
                self.received += _BLOCK
            # The connection is still good for the next request.
            assert connection.get(self._host, "/small").body == b"small"

    def read(self, blocks: int) -> None:
        self._allowed.release(blocks)

    def finish(self) -> None:
        assert not self.fault, self.fault
        assert 0 < self.received < DOWNLOAD_BYTES, "the download did not last as long as the storm"
        self.read(DOWNLOAD_BYTES // _BLOCK)
        self._thread.join(60)
        assert not self._thread.is_alive(), f"the download hangs at {self.received} bytes"
        assert not self.fault, self.fault
        assert self.received == DOWNLOAD_BYTES


def download_block(number: int) -> bytes:
    return number.to_bytes(8, "big") + _PATTERN[8:]


def serve_download(exchange: Exchange) -> None:
    if exchange.request.path == "/small":
        exchange.send(wire.response(b"small"))
        return
    exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {DOWNLOAD_BYTES}\r\n\r\n".encode())
    for number in range(DOWNLOAD_BYTES // _BLOCK):
        exchange.send(download_block(number))


def open_websockets(address: str, host: str, stack: contextlib.ExitStack) -> list[websocket.Client]:
    return [
        websocket.Client(stack.enter_context(Connection(address)), host) for _ in range(WEBSOCKETS)
    ]


def test_a_hundred_commits_close_and_fail_nothing_that_they_do_not_concern(
    site: Site, tmp_path: Path
) -> None:
    moved = ("red", "blue", "green")
    with contextlib.ExitStack() as stack:
        echo = stack.enter_context(RawBackend(websocket.serve_echo))
        big = stack.enter_context(RawBackend(serve_download))
        big_address, echo_address = big.address, echo.address

        def files(backend: str) -> dict[str, Any]:
            clusters = {"steady": ["steady"], "echo": [echo_address], "big": [big_address]}
            hosts = {"steady": "steady", "echo": "echo", "big": "big", "moved": "moved"}
            return {"kakehi.yaml": site.document({**clusters, "moved": [backend]}, hosts)}

        site.start(files("green"))
        before = site.identity()
        assert len(before) == 2
        sockets = open_websockets(site.address, "echo.test", stack)
        for number, client in enumerate(sockets):
            client.echo(b"before %d" % number)
        download = Download(site.address, "big.test")
        wrk = stack.enter_context(Wrk(site.address, "steady.test", tmp_path))
        steady = stack.enter_context(
            OpenLoop(site.address, ["steady.test"], tmp_path / "steady", rate=100, connections=8)
        )
        concerned = stack.enter_context(
            OpenLoop(
                site.address, ["moved.test"], tmp_path / "moved", rate=100, connections=8, fresh=2
            )
        )
        wrk_ports = wrk.ports()

        generation, _ = site.running()
        for number in range(COMMITS):
            name = moved[number % len(moved)]
            download.read(_BLOCKS_A_COMMIT)
            site.wait_by_command(site.repo.commit(files(name), f"number {number}"))
            assert site.kept("moved.test").keys() == before.keys()
            assert site.everywhere("moved.test") == {name}, f"after commit {number}"
            sockets[number % WEBSOCKETS].echo(b"during %d" % number)

        assert site.running() == (generation + COMMITS, site.committed_digest())
        # Nobody lost a connection: wrk's are the same ones, and none of the others was closed.
        assert wrk.ports() == wrk_ports
        requests = wrk.finish()
        for number, client in enumerate(sockets):
            client.echo(b"after %d" % number)
        download.finish()
        for load in (steady, concerned):
            load.stop()
            assert load.failures == []
            assert load.closed == []
        assert {sample.body for sample in steady.samples} == {"steady"}
        assert len({sample.port for sample in steady.samples}) == 8
        assert {sample.body for sample in concerned.samples} == set(moved)
        assert requests > COMMITS
        assert site.identity() == before
        assert [slot["restarts"] for slot in site.daemon.ask("status")["workers"]] == [0, 0]


def test_a_listener_added_and_removed_disturbs_no_other(site: Site, tmp_path: Path) -> None:
    extra = ports.address()

    def files(*, with_extra: bool) -> dict[str, Any]:
        listeners = {"main": site.address} | ({"extra": extra} if with_extra else {})
        document = site.document({"steady": ["steady"]}, {"steady": "steady"}, listeners=listeners)
        return {"kakehi.yaml": document}

    site.start(files(with_extra=False))
    before = site.identity()
    with OpenLoop(site.address, ["steady.test"], tmp_path / "load", rate=200, fresh=2) as load:
        for _ in range(5):
            site.commit(files(with_extra=True))
            assert set(site.fresh("steady.test", address=extra)) == before.keys()
            assert [
                address
                for pid in before
                for address in processes.listening(pid).values()
                if address == extra
            ] == [extra, extra]
            site.commit(files(with_extra=False))
            assert refuses(extra)
            assert site.identity() == before
        load.stop()
    assert load.failures == []
    assert load.closed == []
