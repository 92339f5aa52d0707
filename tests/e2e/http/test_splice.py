"""Bytes that nobody has to look at pass from socket to socket in the kernel.

Every one of them does, whoever is slow, and nothing is left behind when somebody leaves in the
middle.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.harness import processes, rawclient, websocket, wire
from tests.harness.gateway import Gateway, Lane
from tests.harness.rawbackend import Exchange
from tests.harness.syscalls import counted, engine_thread

_LONG = random.Random(7).randbytes(3_000_000)
# More than pipes, sockets and their readers hold together.
_ENDLESS_BYTES = 64 * 1024 * 1024
# Of the engine: beyond them it copies.
_PIPES_MAX = 64


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _answer_long(exchange: Exchange) -> None:
    exchange.send(wire.response(_LONG))


def _send_slowly(client: rawclient.Connection, data: bytes) -> None:
    for start in range(0, len(data), 300_000):
        client.send(data[start : start + 300_000])
        time.sleep(0.02)


def _read_slowly(client: rawclient.Connection) -> wire.Response:
    time.sleep(0.3)
    response = client.read_head()
    length = wire.content_length(response) or 0
    while len(response.body) < length:
        response.body += client.read_exactly(min(200_000, length - len(response.body)))
        time.sleep(0.01)
    return response


def _calls(lane: Lane, output: Path, ask: threading.Thread) -> Counter[str]:
    thread = engine_thread(lane.gateway.worker_pid())
    with counted(thread, output) as calls:
        ask.start()
        ask.join()
    return calls


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_long_response_is_spliced_and_arrives_whole(
    lane: Lane, tmp_path: Path, is_slow: bool
) -> None:
    lane.backend.script = _answer_long
    client = lane.connect(receive_buffer=20_000 if is_slow else None)
    bodies = []

    def ask() -> None:
        for _ in range(2):
            client.send(lane.head("GET /"))
            response = _read_slowly(client) if is_slow else client.read_response()
            bodies.append(response.body)

    calls = _calls(lane, tmp_path / "calls", threading.Thread(target=ask))
    assert [body == _LONG for body in bodies] == [True, True]
    assert calls["splice"] >= 10, calls
    assert len(lane.backend.connections) == 1, "it is used again"


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_long_upload_is_spliced_and_arrives_whole(
    lane: Lane, tmp_path: Path, is_slow: bool
) -> None:
    def script(exchange: Exchange) -> None:
        if is_slow:
            time.sleep(0.5)
        exchange.read_body()
        exchange.send(wire.response())

    lane.backend.script = script
    client = lane.connect()
    answers = []

    def ask() -> None:
        head = lane.head("POST /", f"Content-Length: {len(_LONG)}")
        client.send(head)
        if is_slow:
            client.send(_LONG)
        else:
            _send_slowly(client, _LONG)
        answers.append(client.read_response().status)
        # The next request is not part of it.
        client.send(head + _LONG + lane.head("GET /next"))
        answers.extend(client.read_response().status for _ in range(2))

    calls = _calls(lane, tmp_path / "calls", threading.Thread(target=ask))
    assert answers == [200, 200, 200]
    assert [request.body == _LONG for request in lane.backend.requests] == [True, True, False]
    assert lane.backend.last.target == b"/next"
    assert calls["splice"] >= 10, calls


def test_what_has_to_be_framed_anew_is_not_spliced(lane: Lane, tmp_path: Path) -> None:
    chunked = wire.chunked(_LONG, 100_000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    lane.backend.script = lambda exchange: exchange.send(head + chunked)
    bodies = []
    ask = threading.Thread(target=lambda: bodies.append(lane.get().body))
    calls = _calls(lane, tmp_path / "calls", ask)
    assert bodies == [_LONG]
    assert calls["splice"] == 0, calls


def test_who_leaves_in_the_middle_leaves_no_pipe_behind(lane: Lane) -> None:
    worker = lane.gateway.worker_pid()

    def script(exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {_ENDLESS_BYTES}\r\n\r\n".encode())
        with exchange.connection.socket:
            while not exchange.backend.stopping.is_set():
                try:
                    exchange.send(bytes(100_000))
                except OSError:
                    return

    lane.backend.script = script
    before = _descriptors(worker)
    for round_ in range(3):
        clients = [lane.connect(receive_buffer=20_000) for _ in range(_PIPES_MAX + 6)]
        for client in clients:
            client.send(lane.head("GET /"))
        for client in clients:
            assert client.read_exactly(200_000)
        for client in clients:
            client.reset() if round_ == 1 else client.close()
        # All of its pipes may be kept, which are empty then, and everything else has gone.
        processes.wait_until(
            lambda: _descriptors(worker) <= before + 2 * _PIPES_MAX, "descriptors are given back"
        )
    lane.backend.script = _answer_long
    assert lane.get().body == _LONG


def test_more_slow_readers_than_pipes_get_all_of_it(lane: Lane) -> None:
    lane.backend.script = _answer_long
    clients = [lane.connect(receive_buffer=20_000) for _ in range(_PIPES_MAX + 6)]
    for client in clients:
        client.send(lane.head("GET /"))
    # By now all that pipes and buffers hold is there.
    time.sleep(0.5)
    for client in clients:
        assert client.read_response().body == _LONG


def test_a_backend_that_dies_in_the_middle_is_told_of(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(_LONG)[:2_000_000])
        exchange.close()

    lane.backend.script = script
    client = lane.connect()
    client.send(lane.head("GET /"))
    with pytest.raises(rawclient.Truncated) as caught:
        client.read_response()
    assert _LONG.startswith(caught.value.partial)


def test_a_connection_that_brings_more_than_the_body_is_not_used_again(lane: Lane) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(_LONG) + wire.response(b"smuggled"))

    lane.backend.script = script
    client = lane.connect()
    for _ in range(3):
        assert client.get(lane.host).body == _LONG
    assert len(lane.backend.connections) == 3


def test_a_client_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not(
    lane: Lane,
) -> None:
    lane.backend.script = lambda exchange: exchange.send(wire.response(bytes(20_000_000)))
    idle = lane.connect("hurried", receive_buffer=20_000)
    idle.send(lane.head("GET /"))
    slow = lane.connect("hurried", receive_buffer=20_000)
    slow.send(lane.head("GET /"))
    response = slow.read_head()
    taken = 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        taken += len(slow.read_exactly(50_000))
        time.sleep(0.05)
    assert response.status == 200
    assert taken > 500_000
    with pytest.raises((rawclient.Truncated, ConnectionResetError)):
        idle.read_response()


def test_a_tunnel_that_carries_much_is_spliced_both_ways_and_half_closed(
    lane: Lane, tmp_path: Path
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(websocket.switching(exchange.request))
        sending = threading.Thread(target=exchange.send, args=(_LONG,))
        sending.start()
        exchange.wait_for_end()
        sending.join()
        exchange.send(b"and goodbye")
        exchange.close()

    lane.backend.script = script
    client = lane.connect()
    got = []

    def ask() -> None:
        client.send(websocket.handshake(lane.host))
        assert client.read_response().status == 101
        sending = threading.Thread(target=client.send, args=(_LONG,))
        sending.start()
        got.append(client.read_exactly(len(_LONG)))
        sending.join()
        client.half_close()
        got.append(client.read_to_close())

    calls = _calls(lane, tmp_path / "calls", threading.Thread(target=ask))
    assert got == [_LONG, b"and goodbye"]
    connection = lane.backend.connections[0]
    assert bytes(connection.received).endswith(_LONG[-1_000_000:])
    assert bytes(connection.unread) == _LONG
    assert calls["splice"] >= 10, calls


def test_bytes_are_counted_as_if_they_had_been_copied(lane: Lane, gateway: Gateway) -> None:
    lane.backend.script = lambda exchange: (
        exchange.read_body(),
        exchange.send(wire.response(_LONG)),
    )[0]
    assert lane.post(_LONG, "/counted").body == _LONG
    processes.wait_until(lambda: "/counted" in gateway.daemon.access_log.read_text(), "a line")
    [line] = [
        line for line in gateway.daemon.access_log.read_text().splitlines() if "/counted" in line
    ]
    assert f'"bytes_in":{len(_LONG)},' in line, line
    assert f'"bytes_out":{len(_LONG)},' in line, line
