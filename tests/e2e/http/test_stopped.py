"""A worker that was stopped (SIGSTOP, a suspended machine) for longer than its peers may take.

What came meanwhile is read before anybody is called late, however many they are, and time in which
the worker did not run is on nobody's account: not on a backend's that answers afterwards either.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.harness import ports, processes
from tests.harness.gateway import Gateway

# More than the kernel tells in two turns.
MANY = 1200

LIMIT_S = 2.0
STOPPED_S = 3.5


class Withholding:
    """A backend that takes requests and answers all of them when it is told to."""

    def __init__(self) -> None:
        self.listener = ports.listening(backlog=4096)
        self.address = ports.of(self.listener)
        self.asking: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.1):
                peer = key.fileobj
                assert isinstance(peer, socket.socket)
                if peer is self.listener:
                    self._selector.register(peer.accept()[0], selectors.EVENT_READ)
                elif peer.recv(65536):
                    self.asking.append(peer)
                else:
                    self._selector.unregister(peer)
                    peer.close()

    def answer(self) -> None:
        for peer in self.asking:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


@pytest.fixture
def backend() -> Iterator[Withholding]:
    backend = Withholding()
    yield backend
    backend.stop()


def served(
    gateway: Gateway, name: str, backend: Withholding, seconds: float
) -> list[socket.socket]:
    """Many clients whose requests the backend has, and is to answer within so many seconds."""
    limits = {"response_head": f"{int(seconds * 1000)}ms"}
    host = gateway.cluster(name, {"only": backend.address}, timeouts=limits)
    clients = []
    for _ in range(MANY):
        connection = gateway.connect()
        connection.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        clients.append(connection.socket)
    processes.wait_until(lambda: len(backend.asking) == MANY, "the backend has all requests", 20)
    return clients


def statuses(clients: list[socket.socket]) -> set[bytes]:
    for client in clients:
        client.settimeout(10)
    return {client.recv(65536)[:12] for client in clients}


def test_answers_that_came_meanwhile_are_read_first(gateway: Gateway, backend: Withholding) -> None:
    clients = served(gateway, "stopped-meanwhile", backend, LIMIT_S)
    processes.stop(gateway.worker_pid())
    backend.answer()
    processes.pause(STOPPED_S)  # what the backend has not taken
    processes.resume(gateway.worker_pid())
    assert statuses(clients) == {b"HTTP/1.1 200"}


def test_a_backend_that_answers_afterwards_is_in_time(
    gateway: Gateway, backend: Withholding
) -> None:
    clients = served(gateway, "stopped-before", backend, LIMIT_S)
    processes.stop(gateway.worker_pid())
    processes.pause(STOPPED_S)  # longer than the sleep in which it is stopped
    processes.resume(gateway.worker_pid())
    processes.pause(0.3)  # time in which they would be told that they are late
    backend.answer()
    assert statuses(clients) == {b"HTTP/1.1 200"}
