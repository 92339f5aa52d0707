"""Streams that one side gives up: who is told what, and that others on the connection go on."""

from __future__ import annotations

import threading
from typing import Any

import h2.errors
import pytest
from hyperframe.frame import HeadersFrame, RstStreamFrame

from tests.e2e.h2.conftest import Front
from tests.harness import processes
from tests.harness.h2backend import Request
from tests.harness.h2frames import GET, Attacker

CODES = h2.errors.ErrorCodes
CALL = ((":method", "POST"), *GET[1:], ("content-type", "application/grpc"), ("te", "trailers"))
HEAD_BYTES = 100_000
DEADLINE_S = 20


def heads(client: Attacker) -> int:
    return sum(isinstance(frame, HeadersFrame) for frame in client.read(0.02))


def entry(front: Front, outcome: str) -> dict[str, Any]:
    """The one line of the access log with this outcome."""
    (found,) = front.daemon.wait_for_access(
        lambda each: each["listener"] == front.name and each["outcome"] == outcome, 1
    )
    return found


@pytest.mark.parametrize("burst", [1000, 1500])
def test_a_burst_before_our_settings_are_read(front: Front, burst: int) -> None:
    """What is too much is refused, so that it is sent again; what is not is served."""
    front.start(front.backend(lambda request: request.answer(b"ok")).address)
    with Attacker(front.address) as client:
        client.send(*(client.request(2 * number + 1) for number in range(burst)))
        processes.wait_until(lambda: heads(client) + len(client.resets()) == burst, "all are told")
        assert heads(client) >= 1000
        assert set(client.resets().values()) <= {7}
        assert client.go_away() is None


def test_a_thousand_requests_that_are_given_up_at_once(front: Front) -> None:
    backend = front.backend(lambda request: request.answer(b"ok"))
    front.start(backend.address)
    with Attacker(front.address) as client:
        for number in range(1000):
            client.send(client.request(2 * number + 1), RstStreamFrame(2 * number + 1, 8))
        client.send(client.request(2001))
        processes.wait_until(
            lambda: any(frame.stream_id == 2001 for frame in client.read(0.02)), "it is served"
        )
        assert client.go_away() is None


def test_each_late_frame_may_be_answered_by_a_reset(front: Front) -> None:
    """As Netty does, whose streams forget what they were when they are cancelled."""

    def script(request: Request) -> None:
        request.head()
        if request.path == "/":
            frame = b"\0\0\1\0\0" + request.stream.to_bytes(4, "big") + b"x"
            with request.peer.changed:
                request.peer.socket.sendall(frame * 30_000)

    front.start(front.backend(script).address)
    with Attacker(front.address) as client:
        client.send(client.request(1))
        processes.wait_until(lambda: len(client.read(0.02)) > 30_000, "it has come")
        client.send(RstStreamFrame(1, 8))
        for _ in range(300):
            assert client.send(*[RstStreamFrame(1, 5).serialize()] * 100)
        client.send(client.request(3, (*GET[:3], (":path", "/next"))))
        processes.wait_until(lambda: heads(client) == 2, "the next one is served")
        assert client.go_away() is None


@pytest.mark.parametrize("begins", [False, True], ids=["before the head", "behind it"])
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (CODES.CANCEL, CODES.CANCEL),
        (CODES.ENHANCE_YOUR_CALM, CODES.ENHANCE_YOUR_CALM),
        (CODES.INADEQUATE_SECURITY, CODES.INADEQUATE_SECURITY),
        (CODES.STREAM_CLOSED, CODES.INTERNAL_ERROR),
        (CODES.NO_ERROR, CODES.INTERNAL_ERROR),
    ],
)
def test_a_call_learns_by_which_code_it_was_given_up(
    front: Front, code: CODES, told: CODES, begins: bool
) -> None:
    """It is the status that the call ends with; CANCEL is what becomes of a deadline."""

    def script(request: Request) -> None:
        if begins:
            request.head(200, ("content-type", "application/grpc"))
            request.send(b"\0\0\0\0\1x")
        request.give_up(code)

    front.start(front.backend(script).address)
    with Attacker(front.address) as client:
        client.send(client.request(1, CALL))
        processes.wait_until(lambda: client.read(0.02) and client.resets(), "it is reset")
        assert client.resets() == {1: told}
        assert client.go_away() is None
    assert entry(front, "backend_aborted")["reason"] == code.name.lower()


def test_a_call_that_was_refused_for_good_may_be_tried_again(front: Front) -> None:
    backend = front.backend(lambda request: request.give_up(CODES.REFUSED_STREAM))
    front.start(backend.address, retries=0)
    with Attacker(front.address) as client:
        client.send(client.request(1, CALL))
        processes.wait_until(lambda: client.read(0.02) and client.resets(), "it is reset")
        assert client.resets() == {1: CODES.REFUSED_STREAM}


def test_a_page_that_was_given_up_is_a_502(front: Front) -> None:
    front.start(front.backend(lambda request: request.give_up(CODES.CANCEL)).address)
    assert front.curl("/", "--http2-prior-knowledge")[:2] == (502, "2")
    assert entry(front, "backend_aborted")["reason"] == "cancel"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([("x-long", "a" * HEAD_BYTES)], "head_too_large"),
        ([(f"x-{number}", "a") for number in range(300)], "too_many_fields"),
    ],
)
def test_a_head_that_is_too_large_fails_its_own_request(
    front: Front, fields: list[tuple[str, str]], reason: str
) -> None:
    large = threading.Event()

    def script(request: Request) -> None:
        if request.path == "/slow":
            assert large.wait(DEADLINE_S)
            return request.answer(b"slow")
        return request.head(200, ("x-known", "a"), *fields, ends=True)

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as slow, front.connect() as client:
        slow.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        backend.wait_for(1)
        assert client.get("a", "/large").status == 502
        large.set()
        assert slow.read_response().body == b"slow"
    assert entry(front, "response_malformed")["reason"] == reason
    assert len(backend.peers) == 1


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize("length", [2, 9])
def test_a_length_that_is_wrong_from_the_beginning_is_a_502(
    front: Front, version: str, length: int
) -> None:
    def script(request: Request) -> None:
        with request.peer.changed:
            fields = [(":status", "200"), ("content-length", str(length))]
            request.peer.h2.send_headers(request.stream, fields)
            request.peer.h2.send_data(request.stream, b"hello", end_stream=True)
            request.peer.flush()

    front.start(front.backend(script).address)
    assert front.curl("/", version)[0] == 502
    assert entry(front, "response_malformed")["reason"] == "h2_length_mismatch"
    assert front.counted("bad_gateway_502_total") == 1


def test_what_is_cut_has_had_no_502(front: Front) -> None:
    def script(request: Request) -> None:
        request.head(200, ("content-length", "9"))
        request.send(b"hello")
        assert begun.wait(DEADLINE_S)
        request.end()

    begun = threading.Event()
    front.start(front.backend(script).address)
    with front.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_head().status == 200
        assert client.read_exactly(5) == b"hello"
        begun.set()
        client.read_to_close()
    assert entry(front, "response_malformed")["status"] == 200
    assert front.counted("bad_gateway_502_total") == 0
