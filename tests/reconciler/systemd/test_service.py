"""The daemon under a service manager: what it says, what it parks, and what comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from reconciler.parts import Parts, heard_again_within
from reconciler.systemd.service import Systemd
from tests.harness.daemon import EXECUTABLE
from tests.harness.ports import split
from tests.reconciler.live import Shop, eventually
from tests.reconciler.systemd.test_notify import ServiceManager


class Service:
    """A shop that a service manager runs, as far as the protocol goes."""

    def __init__(self, directory: Path) -> None:
        self.shop = Shop(directory)
        self.manager = ServiceManager(directory / "notify")
        self.stored: dict[str, int] = {}
        self.said: list[str] = []

    def start(self, watchdog_us: int | None = None) -> None:
        """Start it with everything that is stored, from descriptor 3 on."""
        daemon = self.shop.daemon
        command = [EXECUTABLE, "run", str(daemon.repo.directory), "--workers", "2"]
        environment = {**daemon.environment, "NOTIFY_SOCKET": self.manager.path}
        if watchdog_us is not None:
            environment["WATCHDOG_USEC"] = str(watchdog_us)
        if self.stored:
            environment["LISTEN_FDNAMES"] = ":".join(self.stored)
            moves = " ".join(
                f"{position}<&{descriptor}"
                for position, descriptor in enumerate(self.stored.values(), 3)
            )
            setting = f"export LISTEN_FDS={len(self.stored)} LISTEN_PID=$$"
            command = ["bash", "-c", f'{setting}; exec {moves}; exec "$@"', "bash", *command]
        with daemon.output.open("ab") as output:
            daemon.process = subprocess.Popen(
                command,
                env=environment,
                pass_fds=list(self.stored.values()),
                stdout=output,
                stderr=output,
            )
        self.hear_until("READY=1")

    def hear_until(self, wanted: str) -> None:
        while True:
            lines = self.manager.next()
            self.said.append(lines[0])
            if lines[0] == "FDSTORE=1":
                name = lines[1].removeprefix("FDNAME=")
                self.stored[name] = self.manager.descriptors[-1]
            elif lines[0] == "FDSTOREREMOVE=1":
                del self.stored[lines[1].removeprefix("FDNAME=")]
            if lines[0] == wanted:
                return

    def close(self) -> None:
        # A test that ends with the control plane gone leaves workers, as it should.
        self.shop.stop(check=False)
        self.manager.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.shop.repo.commit(made.shop.files(0))
    made.manager._socket.settimeout(20)
    yield made
    made.close()


def test_it_says_ready_when_it_serves_and_parks_its_sockets(service: Service) -> None:
    service.start()
    assert service.shop.get() == 200, "ready means that it serves"
    if len(service.stored) < 2:
        service.hear_until("FDSTORE=1")
    port = split(service.shop.listener)[1]
    assert sorted(service.stored) == [f"w{worker}_127.0.0.1_{port}" for worker in (0, 1)]
    status = f"STATUS=generation 1, commit {service.shop.repo.head()[:12]}"
    if status not in service.said:
        service.hear_until(status)
    service.shop.daemon.commit({"more.yaml": "listeners: {more: {address: '127.0.0.1:1'}}"})
    service.hear_until("FDSTORE=1")
    service.hear_until("FDSTORE=1")
    service.shop.daemon.commit({"more.yaml": None})
    service.hear_until("FDSTOREREMOVE=1")
    service.hear_until("FDSTOREREMOVE=1")
    assert len(service.stored) == 2
    service.shop.leave()
    service.hear_until("STOPPING=1")


def test_no_connection_is_lost_when_everything_dies(service: Service) -> None:
    service.start()
    while len(service.stored) < 2:
        service.hear_until("FDSTORE=1")
    shop = service.shop
    pids = shop.daemon.worker_pids()
    shop.crash()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in pids))
    # Nobody is there, and yet nobody is refused: these wait in the parked sockets.
    waiting = [socket.create_connection(split(shop.listener), timeout=20) for _ in range(8)]
    for each in waiting:
        each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    heard = len(service.said)
    service.start()
    for each in waiting:
        assert each.recv(100).startswith(b"HTTP/1.1 200 ")
        each.close()
    assert "FDSTORE=1" not in service.said[heard:], "they are parked already"


@pytest.mark.timed
def test_signs_of_life_come_in_time(service: Service) -> None:
    service.start(watchdog_us=1_000_000)
    began = time.monotonic()
    for _ in range(3):
        service.hear_until("WATCHDOG=1")
    assert time.monotonic() - began < 3.0


def test_the_watchdog_is_fed_only_while_no_part_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = ServiceManager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", listening.path)
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    listening._socket.setblocking(False)

    def signs() -> int:
        count = 0
        while True:
            try:
                count += listening.next()[0] == "WATCHDOG=1"
            except BlockingIOError:
                return count

    async def run() -> None:
        parts, nobody = Parts(), cast("Any", None)
        freed = asyncio.Event()

        async def work() -> None:
            heard_again_within(0.5)
            await freed.wait()
            heard_again_within(60)
            await asyncio.sleep(60)

        parts.start("work", work)
        parts.start("watchdog", Systemd(nobody, parts, str).watchdog)
        await asyncio.sleep(0.3)
        assert signs() > 0
        await asyncio.sleep(0.5)
        signs()
        await asyncio.sleep(0.8)
        assert signs() == 0
        freed.set()
        await asyncio.sleep(0.5)
        assert signs() > 0
        await parts.stop()

    asyncio.run(run())
    listening.close()
