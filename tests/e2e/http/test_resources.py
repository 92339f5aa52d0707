"""What the worker holds and burns: descriptors come back, and waiting costs no time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import rawclient, websocket, wire
from tests.harness.daemon import resident_kib
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange

ROUNDS = 30


def _descriptors(pid: int) -> tuple[int, int]:
    """How many are of pipes, of which the engine keeps those it has used, and how many others."""
    ends = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            ends.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    pipes = sum(end.startswith("pipe:") for end in ends)
    return pipes, len(ends) - pipes


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _leave_in_a_head(client: rawclient.Connection, lane: Lane) -> None:
    client.send(lane.head("GET /")[:20])


def _leave_in_a_body(client: rawclient.Connection, lane: Lane) -> None:
    client.send(lane.head("POST /", "Content-Length: 100000") + b"x" * 50_000)


def _leave_while_waiting(client: rawclient.Connection, lane: Lane) -> None:
    client.send(lane.head("GET /wait"))


def _leave_in_a_response(client: rawclient.Connection, lane: Lane) -> None:
    client.send(lane.head("GET /large"))
    client.read_head()


def _leave_in_a_tunnel(client: rawclient.Connection, lane: Lane) -> None:
    websocket.Client(client, lane.host).send(b"bye")


def _leave_after_a_response(client: rawclient.Connection, lane: Lane) -> None:
    client.get(lane.host)


def _leave_after_nonsense(client: rawclient.Connection, lane: Lane) -> None:
    client.send(b"nonsense\r\n\r\n" * 1000)


LEAVING = [
    _leave_in_a_head,
    _leave_in_a_body,
    _leave_while_waiting,
    _leave_in_a_response,
    _leave_in_a_tunnel,
    _leave_after_a_response,
    _leave_after_nonsense,
]


def _serve(exchange: Exchange) -> None:
    if exchange.request.path == "/wait":
        exchange.wait_for_go()
        exchange.send(wire.response())
    elif exchange.request.path == "/large":
        exchange.send(wire.response(b"x" * 10_000_000))
    elif exchange.request.all("upgrade"):
        websocket.serve_echo(exchange)
    else:
        exchange.read_body()
        exchange.send(wire.response())


@pytest.mark.parametrize("leave", LEAVING)
def test_descriptors_and_memory_come_back_however_clients_leave(
    lane: Lane, leave: Callable[[rawclient.Connection, Lane], None]
) -> None:
    lane.backend.script = _serve
    pid = lane.gateway.worker_pid()
    assert lane.get().status == 200
    (pipes, before), memory = _descriptors(pid), resident_kib(pid)
    for number in range(ROUNDS):
        client = rawclient.Connection(lane.gateway.addresses["main"])
        leave(client, lane)
        if number % 2:
            client.reset()
        else:
            client.close()
    # A client that has closed in order is found out when it is answered.
    lane.backend.go.set()
    # Of the upstream connections those that had whole responses wait in the pool.
    deadline = time.monotonic() + 20
    while _descriptors(pid)[1] > before + sum(not c.ended for c in lane.backend.connections):
        assert time.monotonic() < deadline, f"{_descriptors(pid)[1]} instead of {before}"
        time.sleep(0.02)
    # As many pipes are kept as were used at the same time, not two ends for each client.
    assert _descriptors(pid)[0] - pipes <= ROUNDS
    assert resident_kib(pid) - memory < 16 * 1024


@pytest.mark.timed
def test_waiting_costs_no_time(lane: Lane) -> None:
    """Half-closed, stalled and silent connections in every state must not keep the loop busy."""

    def script(exchange: Exchange) -> None:
        if exchange.request.path == "/half-closing":
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            exchange.wait_for_go()
        elif exchange.request.path == "/late-body":
            exchange.wait_for_go()
        elif exchange.request.path == "/early-end":
            exchange.send(wire.response(b"early", status="403 Forbidden", framing="close"))
            exchange.half_close()
            exchange.wait_for_end()
        else:
            _serve(exchange)

    lane.backend.script = script
    clients = []

    def begin(data: bytes) -> rawclient.Connection:
        clients.append(lane.connect(receive_buffer=4096))
        clients[-1].send(data)
        return clients[-1]

    begin(b"")  # silent
    begin(lane.head("GET /")[:-2])  # in a head
    begin(lane.head("GET /wait")).half_close()  # half-closed, waiting
    begin(lane.head("GET /large"))  # reads nothing
    begin(lane.head("GET /wait") + lane.head("GET /next"))  # pipelined behind one that waits
    begin(lane.head("POST /half-closing", "Content-Length: 5"))
    begin(lane.head("POST /late-body", "Content-Length: 9000000") + b"x" * 100_000)
    begin(lane.head("POST /early-end", "Content-Length: 5"))
    tunnel = websocket.Client(lane.connect(), lane.host)
    tunnel.connection.half_close()
    begin(websocket.handshake(lane.host, "/wait") + b"early bytes")
    filler = begin(lane.head("POST /late-body", "Content-Length: 90000000"))
    pushing = threading.Thread(target=filler.send_tolerating_close, args=(b"x" * 30_000_000,))
    pushing.start()
    lane.backend.wait_until(lambda: len(lane.backend.requests) >= 9, "all of them begun")

    pid = lane.gateway.worker_pid()
    # The least of three, since they have to settle first.
    spent = []
    for _ in range(3):
        before = _cpu_s(pid)
        time.sleep(0.5)  # the time in which nothing happens is what is tested
        spent.append(_cpu_s(pid) - before)
    lane.backend.go.set()
    filler.socket.shutdown(socket.SHUT_RDWR)
    pushing.join(20)
    assert min(spent) <= 0.05, f"busy for {min(spent)} s of half a second"
