from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.messages import channel as module
from schemas.messages.channel import Channel
from schemas.messages.frames import DESCRIPTORS_MAX, WireError


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, two = socket.socketpair()
    made = Channel(one), Channel(two)
    yield made
    for each in made:
        each.close()


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_frames_and_descriptors_arrive_together(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    files = [os.memfd_create(name) for name in "ab"]
    for position, file in enumerate(files):
        os.write(file, b"file %d" % position)
    here.send(frame(b"first"))
    here.send(frame(b"second"), files)
    here.send(frame(b"third"))
    bodies: list[bytes] = []
    taken: list[int] = []
    while len(bodies) < 3:
        for body in there.receive()[0]:
            bodies.append(body)
            if body == b"second":
                taken = there.take_descriptors(2)
    assert bodies == [b"first", b"second", b"third"]
    assert [os.pread(each, 10, 0) for each in taken] == [b"file 0", b"file 1"]
    assert not any(os.get_inheritable(each) for each in taken)
    for each in (*files, *taken):
        os.close(each)


def test_the_senders_descriptor_stays_its_own(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    file = os.memfd_create("a")
    before = open_descriptors()
    here.send(frame(b"x"), [file])
    assert open_descriptors() == before
    os.close(file)
    there.receive()
    (taken,) = there.take_descriptors(1)
    os.close(taken)


def test_more_than_the_socket_holds_is_kept_and_flushed(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    body = os.urandom(3_000_000)
    file = os.memfd_create("a")
    here.send(frame(body), [file])
    assert here.has_outgoing
    bodies: list[bytes] = []
    while not bodies:
        bodies = there.receive()[0]
        here.flush()
    assert bodies == [body]
    assert not here.has_outgoing
    for each in (file, *there.take_descriptors(1)):
        os.close(each)


def test_the_peers_end_is_noticed(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    assert there.receive() == ([], False)
    here.send(frame(b"bye"))
    here.close()
    here.close()
    assert there.receive() == ([b"bye"], False)
    assert there.receive() == ([], True)
    with pytest.raises(OSError, match="Broken pipe"):
        there.send(frame(b"x"))


def test_descriptors_that_nobody_announced_are_closed(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    file = os.memfd_create("a")
    before = open_descriptors()
    here.send(frame(b"x"), [file])
    there.receive()
    with pytest.raises(WireError, match="1 descriptors arrived, 2 were announced"):
        there.take_descriptors(2)
    with pytest.raises(WireError, match="1 descriptors arrived, 0 were announced"):
        there.take_descriptors(0)
    there.close()
    assert len(open_descriptors()) == len(before) - 1
    os.close(file)


def test_the_most_descriptors_a_message_may_carry(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    file = os.memfd_create("a")
    here.send(frame(b"x"), [file] * DESCRIPTORS_MAX)
    there.receive()
    for each in there.take_descriptors(DESCRIPTORS_MAX):
        os.close(each)
    with pytest.raises(WireError, match="exceed"):
        here.send(frame(b"x"), [file] * (DESCRIPTORS_MAX + 1))
    os.close(file)


def test_a_peer_that_does_not_read_is_given_up(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUEUED_BYTES_MAX", 1_000_000)
    here, _ = ends
    for _ in range(9):
        here.send(frame(bytes(100_000)))
    with pytest.raises(WireError, match="the peer does not read"):
        here.send(frame(bytes(1_000_000)))
