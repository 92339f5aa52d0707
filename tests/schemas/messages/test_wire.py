from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import wire
from schemas.messages.frames import FrameDecoder, WireError

DIGEST = "0123456789abcdef" * 2
TO_WORKER: list[wire.ToWorker] = [
    wire.Hello(epoch=3),
    wire.Stage(
        transaction=1,
        generation=2,
        number=0,
        ops='{"puts":[],"removes":[]}',
        material_dir="/state/material",
        materials=["0" * 64],
    ),
    wire.Prepare(
        transaction=1,
        generation=2,
        base_generation=1,
        base_digest=DIGEST,
        commit="c" * 40,
        chunks=1,
        sockets=["public"],
    ),
    wire.Commit(transaction=1, generation=2),
    wire.Abort(transaction=1, generation=2),
    wire.Release(transaction=1, generation=2),
    wire.Serve(sockets=["public"]),
    wire.Overlay(drained=["shop/a"]),
    wire.Overlay(drained=["shop/a"], ends={"shop/a": 1.5}, kept="{}"),
    wire.Recall(),
    wire.TicketKeys(path="/state/tickets"),
    wire.RateTable(),
    wire.Audit(),
    wire.Recite(position=256),
    wire.Shutdown(drain_ms=5),
]
FROM_WORKER: list[wire.FromWorker] = [
    wire.Welcome(
        worker=0,
        pid=1,
        cpu=-1,
        generation=0,
        commit="",
        digest=DIGEST,
        staged=None,
        listeners=["public"],
        serving=False,
    ),
    wire.Stale(epoch=9),
    wire.Staged(transaction=1, generation=2, number=0),
    wire.Prepared(transaction=1, generation=2, digest=DIGEST),
    wire.Refused(transaction=1, generation=2, kind="listener", name="x", reason="ü\n"),
    wire.Committed(transaction=1, generation=2, digest=DIGEST),
    wire.Aborted(transaction=1, generation=2),
    wire.Released(transaction=1, generation=2),
    wire.Served(),
    wire.Overlaid(drained=[]),
    wire.RateTableTaken(),
    wire.TicketKeysTaken(),
    wire.TicketKeysTaken(problem="no such file"),
    wire.Audited(generation=1, digest=DIGEST, differing=["frontend/web"]),
    wire.AuditEnded(),
    wire.Recited(generation=1, digest=DIGEST, entities="[]", next=256, last=False),
    wire.Recalled(kept="{}"),
    wire.Leaving(),
    wire.Failed(reason="because"),
]


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda each: str(each.type))
def test_a_message_to_a_worker_comes_back(message: wire.ToWorker) -> None:
    (body,) = FrameDecoder().feed(wire.encode(message))
    assert wire.decode_to_worker(body) == message


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda each: str(each.type))
def test_a_message_from_a_worker_comes_back(message: wire.FromWorker) -> None:
    (body,) = FrameDecoder().feed(wire.encode(message))
    assert wire.decode_from_worker(body) == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"type":"other"}',
        b'{"type":"commit"}',
        b'{"type":"commit","transaction":1,"generation":-1}',
        b'{"type":"commit","transaction":1,"generation":"2"}',
        b'{"type":"commit","transaction":1,"generation":2,"more":1}',
        b'{"type":"welcome"}',
    ],
)
def test_what_is_no_message_is_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(WireError) as refused:
        wire.decode_to_worker(body)
    assert "\n" not in str(refused.value)


def test_a_greeting_of_another_protocol_is_understood() -> None:
    hello = wire.decode_to_worker(b'{"type":"hello","epoch":3,"protocol":99,"colour":[1.5]}')
    assert hello == wire.Hello(epoch=3, protocol=99)
    body = b'{"type":"welcome","protocol":99,"worker":1,"pid":7,"listeners":["a"],"held":{}}'
    welcome = wire.decode_from_worker(body)
    assert isinstance(welcome, wire.Welcome)
    assert (welcome.protocol, welcome.worker, welcome.pid) == (99, 1, 7)
    assert welcome.listeners == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"hello","epoch":3,"protocol":%d,"colour":1}' % wire.PROTOCOL,
        b'{"type":"hello","epoch":-3,"protocol":99}',
        b'{"type":"hello","epoch":3,"protocol":"99"}',
        b'{"type":"commit","transaction":1,"generation":2,"protocol":99}',
    ],
)
def test_no_other_liberty_is_taken(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_to_worker(body)


def test_a_digest_is_32_digits() -> None:
    for digest in ("", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), DIGEST[:-1] + "\n"):
        body = b'{"type":"prepared","transaction":1,"generation":1,"digest":"%s"}'
        with pytest.raises(WireError):
            wire.decode_from_worker(body % digest.replace("\n", "\\n").encode())


@given(st.binary(max_size=200))
def test_no_bytes_end_the_decoder_otherwise(content: bytes) -> None:
    for decode in (wire.decode_to_worker, wire.decode_from_worker):
        with contextlib.suppress(WireError):
            decode(content)
