"""Requests that come back to where they were sent from: answered 508 after a few rounds."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports
from tests.reconciler.live import shop


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


@pytest.mark.parametrize("protocol", ["http", "h2"])
def test_a_circle_ends_after_a_few_rounds(tmp_path: Path, protocol: str) -> None:
    with shop(tmp_path, 1) as running, way_back(running.listener) as back:
        files: dict[str, Any] = running.files()
        files["listeners.yaml"]["listeners"]["public"]["h2c"] = True
        backends = {"ourselves": {"address": back}}
        files["shop.yaml"]["clusters"]["circle"] = {"protocol": protocol, "backends": backends}
        files["shop.yaml"]["frontends"]["circle"] = {
            "listeners": ["public"],
            "cluster": "circle",
            "hostname": "circle.test",
        }
        running.daemon.commit(files)
        connection = http.client.HTTPConnection(*ports.split(running.listener), timeout=20)
        connection.request("GET", "/", headers={"Host": "circle.test"})
        response = connection.getresponse()
        assert (response.status, response.reason) == (508, "Loop Detected")
        connection.close()
        entries = running.daemon.wait_for_access(lambda entry: entry["status"] == 508, 12)
        assert len(entries) == 12, "ten of ours may have passed it on before"
        assert [entry["outcome"] for entry in entries].count("loop") == 1
        assert running.get() == 200
