"""Orders that do not come to an end: none of them keeps its certificate, or others, from one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler import own_threads
from reconciler.acme import certifying
from reconciler.acme.certifying import Certifying
from reconciler.storage.store import Store
from reconciler.workers.telling.challenges import ChallengeKeeper
from schemas.entities.entity import Entity
from tests.harness import pki, ports
from tests.reconciler.building import entity

_SOON_S = 10.0


class Scene:
    """One certificate that is ordered, and an authority that answers byte by byte, for ever."""

    def __init__(self, directory: Path) -> None:
        self.address, self.asked = ports.address(), 0
        authority = pki.make("An authority of the tests", is_ca=True)
        own = pki.make("localhost", "127.0.0.1", issuer=authority)
        self.ca, self.wanted = directory / "ca.pem", list[Entity]()
        self.ca.write_bytes(authority.pem)
        self._over = threading.Event()
        self._own = directory / "own.pem"
        self._own.write_bytes(own.chain + own.key)
        challenges = ChallengeKeeper(directory, list)
        self.store = Store(directory / "state")
        self.certifying = Certifying(
            directory,
            challenges,
            self.ordered,
            claims=lambda _: True,
            served=lambda _: lambda: None,
            memory=self.store,
            tell=self.store.notes.add,
            issued=lambda: None,
        )
        self.order()

    def ordered(self) -> list[Entity]:
        return self.wanted

    def order(self, directory: str | None = None, **acme: Any) -> None:
        """Want it from there, by the authority's own address if nothing is said."""
        wanted = {"directory": directory or f"https://{self.address}/dir", "ca": str(self.ca)}
        self.wanted[:] = [
            entity("certificate", "own", acme={**wanted, **acme}, hostnames=["shop.test"])
        ]
        self.certifying.wake()

    def _serve(self, listening: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._own)
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                asked = context.wrap_socket(accepted, server_side=True)
                threading.Thread(target=self._answer, args=(asked,)).start()

    def _answer(self, asked: ssl.SSLSocket) -> None:
        self.asked += 1
        with contextlib.suppress(OSError), asked:
            asked.recv(4096)
            asked.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not self._over.wait(0.1):
                asked.sendall(b"y")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with socket.create_server(ports.split(self.address)) as listening:
            serving = threading.Thread(target=self._serve, args=(listening,))
            serving.start()
            task = asyncio.create_task(self.certifying.run())
            try:
                yield
            finally:
                task.cancel()
                self._over.set()
                listening.shutdown(socket.SHUT_RDWR)
                serving.join()

    async def told(self, part: str) -> None:
        """Return when one of the warnings has this in it."""
        await becomes(lambda: any(part in each for each in self.certifying.warnings()))

    async def is_asked(self, times: int = 1) -> None:
        await becomes(lambda: self.asked >= times)


async def becomes(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(_SOON_S):
        while not happened():  # noqa: ASYNC110  # another thread makes it so
            await asyncio.sleep(0.02)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.store.close()


def test_an_order_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:

    async def ordering() -> None:
        monkeypatch.setattr(certifying, "ORDER_WITHIN_S", 1.0)
        async with scene.running():
            await scene.told("it did not come to an end in 1 s")
            assert scene.certifying.failures() == {"own": 1}

    asyncio.run(ordering())


def test_a_changed_order_does_not_wait_for_what_runs(scene: Scene) -> None:

    async def ordering() -> None:
        async with scene.running():
            await scene.is_asked()
            nowhere = f"https://{ports.address()}/dir"
            scene.order(nowhere)
            await scene.told(f"{nowhere} cannot be reached: connection refused")

    asyncio.run(ordering())


def test_a_hostname_more_lets_the_order_that_runs_end(scene: Scene) -> None:
    """Where one comes every few seconds, none would ever be issued."""

    async def ordering() -> None:
        async with scene.running():
            await scene.is_asked()
            more = {**scene.wanted[0].value, "hostnames": ["more.test", "shop.test"]}
            scene.wanted[:] = [entity("certificate", "own", **more)]
            scene.certifying.wake()
            await asyncio.sleep(0.5)
            assert scene.asked == 1

    asyncio.run(ordering())


def test_so_many_orders_may_hang(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:

    async def ordering() -> None:
        monkeypatch.setattr(own_threads, "HANGING_MAX", 2)
        async with scene.running():
            for number in range(3):
                await scene.is_asked(number)
                scene.order(contact=[f"ops{number}@shop.test"])
            await scene.told("2 attempts hang")
        assert sum(each.name == "certificate order" for each in threading.enumerate()) <= 3

    asyncio.run(ordering())


@pytest.mark.parametrize("found", ["fifo", "garbage", "gone", "directory"])
def test_authorities_that_cannot_be_read_are_told_and_tried_when_they_can(
    scene: Scene, found: str
) -> None:

    async def ordering() -> None:
        content = scene.ca.read_bytes()
        scene.ca.unlink()
        expected = {
            "fifo": "it is no regular file",
            "garbage": "the file holds no PEM certificate",
            "gone": "No such file or directory",
            "directory": "it is a directory",
        }[found]
        match found:
            case "fifo":
                os.mkfifo(scene.ca)
            case "garbage":
                scene.ca.write_bytes(b"garbage")
            case "directory":
                scene.ca.mkdir()
        nowhere = f"https://{ports.address()}/dir"
        scene.order(nowhere)
        async with scene.running():
            await scene.told(f"no certificate was issued: {scene.ca}: {expected}")
            new = scene.ca.with_name("new.pem")
            new.write_bytes(content)
            if found == "directory":
                scene.ca.rmdir()
            new.rename(scene.ca)
            await scene.told("connection refused")

    asyncio.run(ordering())
