"""HTTP/2 backends that go away, refuse, break the protocol, or say nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h2.errors
import hyperframe.frame
import pytest

from tests.e2e.h2.conftest import Front
from tests.harness import ports, processes, wire
from tests.harness.h2backend import H2Backend, Request
from tests.harness.rawbackend import RawBackend

CODES = h2.errors.ErrorCodes
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


def first(backend: H2Backend, request: Request) -> bool:
    """Whether it is the first request that the backend sees."""
    return backend.seen[0] is request


def test_a_refused_stream_is_sent_again_whatever_its_method(front: Front) -> None:
    def script(request: Request) -> None:
        if first(backend, request):
            return request.give_up(CODES.REFUSED_STREAM)
        return request.answer(b"again")

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        response = client.get("a", method="POST")
        assert (response.status, response.body) == (200, b"again")
    assert len(backend.seen) == 2


def test_a_request_whose_body_has_gone_is_not_sent_again(front: Front) -> None:
    def script(request: Request) -> None:
        request.read_some(1)
        request.give_up(CODES.REFUSED_STREAM)

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        client.send(POST)
        assert client.read_response().status == 502
    assert len(backend.seen) == 1
    assert front.outcomes(1) == [(502, "backend_aborted")]


def test_a_backend_that_refuses_everything_is_asked_so_often_only(front: Front) -> None:
    backend = front.backend(lambda request: request.give_up(CODES.REFUSED_STREAM))
    front.start(backend.address, retries=2)
    with front.connect() as client:
        assert client.get("a").status == 502
    assert len(backend.seen) == 3


@pytest.mark.parametrize("retries", [0, 2])
def test_nothing_is_sent_twice_without_retries(front: Front, retries: int) -> None:
    backend = front.backend(lambda request: request.give_up(CODES.REFUSED_STREAM))
    front.start(backend.address, retries=retries)
    with front.connect() as client:
        assert client.get("a").status == 502
    assert len(backend.seen) == retries + 1


@pytest.mark.parametrize("code", [CODES.REFUSED_STREAM, CODES.ENHANCE_YOUR_CALM])
def test_a_connection_that_refuses_streams_in_a_row_gets_a_successor(
    front: Front, code: CODES
) -> None:
    """As Node's does once what it holds for slow clients is too much, for good."""
    begun, over = threading.Event(), threading.Event()

    def script(request: Request) -> None:
        if request.path == "/held":
            request.head()
            request.send(b"held")
            # Later it would be an answer between those that are refused.
            begun.set()
            assert over.wait(10)
            request.end()
        elif request.peer is backend.seen[0].peer:
            request.give_up(code)
        else:
            request.answer(b"new")

    backend = front.backend(script)
    front.start(backend.address, retries=0)
    with ThreadPoolExecutor(1) as pool, front.connect() as other, front.connect() as client:
        held = pool.submit(other.get, "a", "/held")
        assert begun.wait(10)
        statuses = [client.get("a").status for _ in range(6)]
        assert statuses == [502, 502, 502, 200, 200, 200]
        over.set()
        assert held.result(10).body == b"held", "what runs on it comes to its end"
    processes.wait_until(lambda: len(backend.alive) == 1, "the old one is closed")


def test_a_connection_that_answers_in_between_is_kept(front: Front) -> None:
    def script(request: Request) -> None:
        if len(backend.seen) % 3 == 0:
            return request.answer(b"ok")
        return request.give_up(CODES.ENHANCE_YOUR_CALM)

    backend = front.backend(script)
    front.start(backend.address, retries=0)
    with front.connect() as client:
        assert [client.get("a").status for _ in range(9)] == [502, 502, 200] * 3
    assert len({request.peer.number for request in backend.seen}) == 1


@pytest.mark.parametrize("code", [CODES.CANCEL, CODES.INTERNAL_ERROR, CODES.HTTP_1_1_REQUIRED])
def test_a_stream_reset_before_its_answer_is_a_502(front: Front, code: CODES) -> None:
    backend = front.backend(lambda request: request.give_up(code))
    front.start(backend.address)
    with front.connect() as client:
        assert client.get("a").status == 502
        # The connection of the client lives on, and that of the backend too.
        assert client.get("a").status == 502
    assert (len(backend.seen), len(backend.peers)) == (2, 1)


def test_a_stream_reset_in_mid_response_cuts_the_response(front: Front) -> None:
    def script(request: Request) -> None:
        if request.path == "/fine":
            return request.answer(b"fine")
        request.head(200, ("content-length", "10"))
        request.send(b"abc")
        return request.give_up(CODES.INTERNAL_ERROR)

    front.start(front.backend(script).address)
    with front.connect() as client, front.connect() as other:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _, _, body = client.read_to_close().partition(b"\r\n\r\n")
        assert body in (b"", b"abc")
        assert other.get("a", "/fine").body == b"fine"
    assert (200, "backend_aborted") in front.outcomes(2)


def test_goaway_lets_open_streams_end_and_moves_the_rest(front: Front) -> None:
    """Streams at or below the last one are served, those above go to a new connection."""
    gate = threading.Event()

    def script(request: Request) -> None:
        if request.peer.number == 0 and request.path == "/late":
            # As a server does that has not looked at it.
            return request.peer.go_away(1)
        if request.path == "/early":
            gate.wait(20)
        return request.answer(f"{request.peer.number}".encode())

    backend = front.backend(script)
    front.start(backend.address)

    def get(path: str) -> bytes:
        with front.connect() as client:
            return client.get("a", path, method="POST").body

    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(get, "/early")
        backend.wait_for(1)
        assert get("/late") == b"1"
        gate.set()
        assert early.result(20) == b"0"
    # The old connection has no stream any more.
    processes.wait_until(lambda: backend.peers[0].is_lost, "the connection that was left is closed")
    assert get("/next") == b"1"


def test_an_idle_connection_that_says_goaway_is_not_used_again(front: Front) -> None:
    backend = front.backend()
    front.start(backend.address)
    with front.connect() as client:
        for number in range(5):
            assert client.get("a", method="POST").status == 200
            backend.peers[number].go_away(1)
            processes.wait_until(lambda: backend.peers[-1].is_lost, "it is closed")
    assert [len(peer.requests) for peer in backend.peers] == [1] * 5


def test_a_connection_that_closes_while_idle_costs_no_request(front: Front) -> None:
    backend = front.backend()
    front.start(backend.address)
    with front.connect() as client:
        for number in range(5):
            assert client.get("a").status == 200
            backend.peers[number].close()


def test_a_backend_that_speaks_http_1_cannot_be_reached(front: Front) -> None:
    backend = RawBackend()
    try:
        front.start(backend.address)
        with front.connect() as client:
            assert client.get("a").status == 502
            client.send(POST)
            assert client.read_response().status == 502
    finally:
        backend.stop()
    assert front.outcomes(2) == [(502, "not_http2")] * 2


def test_a_backend_that_never_answers_the_preface(front: Front) -> None:
    backend = front.backend(greets=False)
    backend.script = lambda request: None
    listening = ports.listening()
    address = ports.of(listening)
    front.start(address, timeouts={"connect": "300ms"}, retries=0)
    with front.connect() as client:
        assert client.get("a").status == 504
    listening.close()
    assert front.outcomes(1) == [(504, "connect_timeout")]


def test_what_cannot_be_reached_goes_to_the_next_backend(front: Front) -> None:
    refusing = ports.Refusing()
    backend = front.backend()
    try:
        front.start(refusing.address, backend.address)
        with front.connect() as client:
            for _ in range(4):
                client.send(POST)
                assert client.read_response().body == b"abc"
    finally:
        refusing.close()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([("content-length", "3"), ("content-length", "4")], "duplicate_content_length"),
        ([("connection", "close")], "h2_connection_field"),
        ([("transfer-encoding", "chunked")], "h2_connection_field"),
        ([("bad name", "x")], "invalid_field_name"),
        ([("Upper", "x")], "invalid_field_name"),
        ([("x-bad", "a\r\nb: c")], "invalid_field_value"),
        ([(":status", "200")], "h2_duplicate_pseudo_field"),
    ],
)
def test_a_malformed_response_head_is_a_502(
    front: Front, fields: list[tuple[str, str]], reason: str
) -> None:
    def script(request: Request) -> None:
        if request.path == "/fine":
            return request.answer(b"fine")
        config = request.peer.h2.config
        config.validate_outbound_headers = config.normalize_outbound_headers = False
        return request.head(200, *fields, ends=True)

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        response = client.get("a")
        assert (response.status, b"b" in response.names()) == (502, False)
        assert client.get("a", "/fine").body == b"fine"
    (entry,) = front.daemon.wait_for_access(
        lambda each: each["listener"] == front.name and each["outcome"] == "response_malformed", 1
    )
    assert (entry["status"], entry["reason"]) == (502, reason)


def test_a_body_of_another_length_than_said_is_no_whole_response(front: Front) -> None:
    def script(request: Request) -> None:
        length = request.path[1:]
        request.head(200, ("content-length", length))
        request.send(b"abcd", ends=True)

    front.start(front.backend(script).address)
    for length in ("3", "5"):
        with front.connect() as client:
            lines = f"GET /{length} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            client.send(lines.encode())
            head, _, body = client.read_to_close().partition(b"\r\n\r\n")
            # Where both have come in one read, it is known before anything is sent.
            assert head.startswith(b"HTTP/1.1 502") or len(body) < int(length)


def test_bytes_that_are_no_frames_end_the_connection_alone(front: Front) -> None:
    def script(request: Request) -> None:
        if request.path == "/fine":
            return request.answer(b"fine")
        return request.peer.socket.sendall(b"\xff" * 100)

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        assert client.get("a", method="POST").status == 502
        assert client.get("a", "/fine").body == b"fine"
    assert len(backend.peers) == 2


def test_an_answer_that_does_not_come_in_time_is_a_504(front: Front) -> None:
    def script(request: Request) -> None:
        if request.path == "/fine":
            request.answer(b"fine")

    backend = front.backend(script)
    front.start(backend.address, timeouts={"response_head": "400ms"}, retries=0)
    with front.connect() as client:
        assert client.get("a").status == 504
        assert client.get("a", "/fine").body == b"fine"
    slow = backend.seen[0]
    slow.wait(lambda: slow.reset is not None)
    assert slow.reset == CODES.CANCEL
    assert len(backend.peers) == 1


def test_a_connection_that_has_died_silently_is_found_out(front: Front) -> None:
    """No answer to the request, and none to a ping: the next request gets a new connection."""
    backend = front.backend()
    front.start(backend.address, timeouts={"response_head": "500ms", "connect": "400ms"}, retries=0)
    with front.connect() as client:
        assert client.get("a").status == 200
        backend.peers[0].is_deaf.set()
        assert client.get("a").status == 504
        # In doubt, it is not given more.
        assert client.get("a").status == 200
        assert len(backend.peers) == 2
        processes.wait_until(
            lambda: len(processes.connections(front.daemon.worker_pids()[0], backend.address)) == 1,
            "the dead connection is given up",
        )
        backend.peers[0].is_deaf.clear()


def test_a_client_that_leaves_ends_its_stream_alone(front: Front) -> None:
    backend = front.backend(lambda request: request.read())
    front.start(backend.address)
    client = front.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    (request,) = backend.wait_for(1)
    client.reset()
    request.wait(lambda: request.reset is not None)
    assert request.reset == CODES.CANCEL
    backend.script = lambda request: request.answer(b"on")
    with front.connect() as other:
        assert other.get("a").body == b"on"
    assert len(backend.peers) == 1


def test_an_answer_before_the_end_of_the_request(front: Front) -> None:
    """What is left of the request is not wanted: the stream is given up, the connection is not."""
    backend = front.backend(lambda request: request.answer(b"enough", 413))
    front.start(backend.address)
    with front.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        response = client.read_response()
        assert (response.status, response.body) == (413, b"enough")
    with front.connect() as client:
        client.send(POST)
        assert client.read_response().status == 413
    assert len(backend.peers) == 1


def test_removing_a_backend_ends_its_connection_with_its_last_stream(front: Front) -> None:
    gate = threading.Event()

    def script(request: Request) -> None:
        if request.path == "/long":
            gate.wait(20)
        request.answer(b"old")

    old = front.backend(script)
    new = front.backend(lambda request: request.answer(b"new"))
    front.start(old.address)

    def long() -> bytes:
        with front.connect() as client:
            return client.get("a", "/long").body

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(long)
        old.wait_for(1)
        front.commit(new.address)
        with front.connect() as client:
            assert client.get("a").body == b"new"
        time.sleep(0.2)
        assert not old.peers[0].is_lost
        gate.set()
        assert waiting.result(20) == b"old"
    processes.wait_until(lambda: old.peers[0].is_lost, "the connection has ended")
    assert len(old.seen) == 1


def test_the_protocol_of_a_cluster_changes_by_commit(front: Front) -> None:
    """The same address speaks HTTP/1.1 to one generation and HTTP/2 to the next."""
    plain = RawBackend(lambda exchange: exchange.send(wire.response(b"one")))
    two = front.backend(lambda request: request.answer(b"two"))
    try:
        front.start(two.address)
        with front.connect() as client:
            assert client.get("a").body == b"two"
            front.commit(plain.address, protocol="http")
            assert client.get("a").body == b"one"
            front.commit(two.address)
            assert client.get("a").body == b"two"
    finally:
        plain.stop()


def test_a_backend_that_asks_without_reading_is_let_go(front: Front) -> None:
    """Each PING has to be answered, and the answers must not pile up for one that reads none."""
    over = threading.Event()

    def script(request: Request) -> None:
        if request.path == "/":
            return request.answer(b"ok")
        peer = request.peer
        peer.is_deaf.set()
        ping = hyperframe.frame.PingFrame(0, opaque_data=b"anybody?").serialize()
        with contextlib.suppress(OSError):
            # Slowly enough for what a backend may do in all honesty.
            while not over.is_set():
                peer.socket.sendall(ping * 700)
                time.sleep(0.25)
        return None

    backend = front.backend(script)
    # Few of the answers are to lie in the kernel.
    backend.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    backend.listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    front.start(backend.address, timeouts={"response_head": "2m"})
    with front.connect() as client, front.connect() as other:
        client.send(b"GET /deaf HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_response().status == 502
        over.set()
        assert other.get("a").status == 200
