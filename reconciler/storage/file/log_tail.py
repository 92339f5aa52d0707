"""What lies in the log of the state database behind the place at which SQLite has stopped.

SQLite takes the log (WAL) to end at the first frame whose sum is wrong, and says nothing of it. So
a flipped bit loses all that was committed behind it. Frames of a log carry its two salts, and the
last one of each transaction is marked: such a frame behind the end was committed once, unless it
was being written when the machine stopped. Called by `reconciler.storage.opened` at a start, before
anything is written there. See https://sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

from reconciler.storage.file.checkpoints import PAGE_BYTES

_HEAD_BYTES, _FRAME_HEAD_BYTES = 32, 24
_FRAME_BYTES = _FRAME_HEAD_BYTES + PAGE_BYTES
_SALTS = slice(8, 16)
# Behind the log lie frames of logs before it, which may be many.
_OTHERS_MAX = 64
GONE = (
    "the log of the state database is gone: what was not copied into the database yet (commits, "
    "drains, history) is lost, unless another program has done that meanwhile"
)
DAMAGED = (
    "the log of the state database is damaged: what was recorded behind the damage (commits, "
    "drains, history) is lost"
)
TORN = (
    "the last transaction in the log of the state database is not whole: what it recorded is lost, "
    "unless the daemon or the machine ended while it was written"
)


def lost_behind(log: Path, ends_at: int) -> str | None:
    """What to say of a log that SQLite has read so many frames of. Raises nothing."""
    with contextlib.suppress(OSError):
        opened = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _looked_through(opened, ends_at)
        finally:
            os.close(opened)
    return None


def _looked_through(opened: int, ends_at: int) -> str | None:
    head = os.pread(opened, _HEAD_BYTES, 0)
    if len(head) < _HEAD_BYTES:
        return None
    own = head[16:24] if _is_sound(head) else None
    others, committed = 0, False
    # One that was not written to its end has never been one.
    whole = (os.fstat(opened).st_size - _HEAD_BYTES) // _FRAME_BYTES
    for number in range(ends_at, whole):
        frame = os.pread(opened, _FRAME_HEAD_BYTES, _HEAD_BYTES + number * _FRAME_BYTES)
        if others > _OTHERS_MAX:
            break
        if not _is_of(own, frame[_SALTS]):
            others += 1
            continue
        if committed or (own is None and any(frame)):
            return DAMAGED
        # The size of the database behind a transaction; 0 in its other frames.
        committed = any(frame[4:8])
    return TORN if committed else None


def _is_of(own: bytes | None, salts: bytes) -> bool:
    """Whether a frame is of the log with these salts, one flipped bit aside."""
    if own is None:
        return True
    return (int.from_bytes(own, "big") ^ int.from_bytes(salts, "big")).bit_count() <= 1


def _is_sound(head: bytes) -> bool:
    """Whether the head of a log is what was written: by its sum."""
    # Its lowest bit says in which order of bytes sums are made.
    order: Literal["big", "little"] = "big" if head[3] & 1 else "little"
    first = second = 0
    for place in range(0, 24, 8):
        words = head[place : place + 4], head[place + 4 : place + 8]
        first = (first + int.from_bytes(words[0], order) + second) & 0xFFFFFFFF
        second = (second + int.from_bytes(words[1], order) + first) & 0xFFFFFFFF
    return head[24:32] == first.to_bytes(4, "big") + second.to_bytes(4, "big")
