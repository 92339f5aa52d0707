"""Requests that come back to where they were sent from: answered 508 by the first who knows."""

from __future__ import annotations

import http.client
import operator
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports
from tests.reconciler.live import Shop, eventually, serves, shop


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def way_back(to: str) -> Iterator[str]:
    """An address that leads to another one, which nobody can see in the configuration."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                onward = socket.create_connection(ports.split(to))
                opened.extend((client, onward))
                for pair in ((client, onward), (onward, client)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()

    opened: list[socket.socket] = []
    with ports.listening() as listening:
        accepting = threading.Thread(target=serve)
        accepting.start()
        yield ports.of(listening)
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for each in opened:
        each.close()


def led_to(running: Shop, back: str, **keys: Any) -> dict[str, Any]:
    """The shop's files with a host that leads on to another place, and h2c."""
    files: dict[str, Any] = running.files()
    files["listeners.yaml"]["listeners"]["public"]["h2c"] = True
    backends = {"ourselves": {"address": back}}
    files["shop.yaml"]["clusters"]["circle"] = {"backends": backends} | keys
    files["shop.yaml"]["frontends"]["circle"] = {
        "listeners": ["public"],
        "cluster": "circle",
        "hostname": "circle.test",
    }
    return files


def ask(running: Shop, host: str = "circle.test", **fields: str) -> int:
    connection = http.client.HTTPConnection(*ports.split(running.listener), timeout=20)
    try:
        connection.request("GET", "/", headers={"Host": host} | fields)
        return connection.getresponse().status
    finally:
        connection.close()


def passed_on_by(running: Shop, host: str) -> list[str]:
    """Who says in an answer that it has passed it on."""
    connection = http.client.HTTPConnection(*ports.split(running.listener), timeout=20)
    try:
        connection.request("GET", "/", headers={"Host": host})
        told = connection.getresponse().msg.get_all("via") or []
        return [line.rpartition(" ")[2] for line in told]
    finally:
        connection.close()


@pytest.mark.parametrize("protocol", ["http", "h2"])
def test_a_circle_ends_where_it_began(tmp_path: Path, protocol: str) -> None:
    with shop(tmp_path, 2) as running, way_back(running.listener) as back:
        running.daemon.commit(led_to(running, back, protocol=protocol))
        assert ask(running) == 508
        is_it = operator.itemgetter("status")
        entries = running.daemon.wait_for_access(lambda entry: is_it(entry) == 508, 2)
        assert len(entries) == 2, "whichever worker it comes back to"
        assert sorted(entry["outcome"] for entry in entries) == ["loop", "ok"]
        assert running.get() == 200


def test_one_behind_another_works_and_a_circle_over_both_is_found(tmp_path: Path) -> None:
    with shop(tmp_path / "a", 1) as first, shop(tmp_path / "b", 1) as second:
        files = led_to(second, first.listener)
        second.daemon.commit(files)
        first.daemon.commit(led_to(first, second.listener))
        assert ask(first, Via="1.1 kakehi, 1.0 kakehi-0123456789ab") == 508, "back at the first"
        (entry,) = second.daemon.wait_for_access(lambda each: each["host"] == "circle.test")
        assert (entry["status"], entry["outcome"]) == (508, "ok")
        # Behind the second there is a backend now.
        files["shop.yaml"]["clusters"]["circle"] = files["shop.yaml"]["clusters"]["shop"]
        second.daemon.commit(files)
        assert ask(first, Via="1.1 kakehi, 1.0 kakehi-0123456789ab") == 200
        told = second.backends[0].last.all("via")
        names = [line.decode().rpartition(" ")[2] for line in told]
        assert names[0] == "kakehi-0123456789ab"
        assert len({*names}) == 3, "each has a name of its own"
        assert all(re.fullmatch("kakehi-[0-9a-f]{12}", name) for name in names)
        # An answer has come the same way back.
        assert passed_on_by(first, "circle.test") == [names[2], names[1]]


def test_the_name_outlives_daemon_and_workers_or_is_the_one_that_is_given(tmp_path: Path) -> None:
    def named() -> str:
        running.backends[0].reset()
        assert running.get() == 200
        return running.backends[0].last.all("via")[-1].decode()

    with shop(tmp_path, 2) as running:
        before = {named() for _ in range(8)}
        assert len(before) == 1, "all workers say it"
        for worker in running.daemon.worker_pids():
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: serves(running))
        running.crash()
        running.daemon.start()
        assert {named() for _ in range(8)} == before
        running.commit(via="edge-1")
        assert named() == "1.1 edge-1"
        assert passed_on_by(running, "any") == ["edge-1"]
        assert ask(running, "any", Via="1.1 Edge-1") == 508
        assert ask(running, "any", Via=before.pop()) == 200, "it is somebody else's now"
