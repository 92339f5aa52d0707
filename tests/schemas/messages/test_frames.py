from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import frames, wire
from schemas.messages.frames import FrameDecoder, WireError


@given(st.lists(st.binary(max_size=50), max_size=6), st.data())
def test_frames_come_out_however_the_bytes_come_in(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    decoder, found, at = FrameDecoder(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 20))
        found += decoder.feed(stream[at : at + size])
        at += size
    assert found == bodies


def test_a_length_over_the_limit_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(WireError, match="exceeds"):
        FrameDecoder().feed((frames.FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def test_a_message_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAME_BYTES_MAX", 100)
    with pytest.raises(WireError, match="a failed message of 1029 bytes exceeds a frame"):
        wire.encode(wire.Failed(reason="x" * 1000))
