"""Lines for a reader who may not read."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from schemas.messages.lines import LINE_BYTES_MAX, LINES_MAX, LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    os.close(ends[0])


def read_all(descriptor: int) -> list[bytes]:
    """Until it says nothing for a while."""
    os.set_blocking(descriptor, False)
    found = b""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.5:
        try:
            block = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        found += block
        quiet_since = time.monotonic()
    return found.splitlines()


def test_lines_arrive_in_order(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    for number in range(500):
        writer.write(f"line {number}")
    assert writer.flush(5.0)
    assert read_all(pipe[0]) == [f"line {number}".encode() for number in range(500)]
    assert writer.dropped == 0


def test_nobody_reads_and_nobody_waits(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    began = time.monotonic()
    count = 5_000
    for number in range(count):
        writer.write(f"{number} " + "x" * 100)
    assert time.monotonic() - began < 1.0
    assert not writer.flush(0.05)
    assert writer.is_stuck
    dropped = writer.dropped
    assert 0 < dropped <= count - LINES_MAX
    # Somebody reads again: what is missing is told in its place, and everything flows.
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.extend(read_all(pipe[0])))
    reading.start()
    assert writer.flush(5.0)
    writer.write("the last one")
    assert writer.flush(5.0)
    reading.join()
    assert found[-1] == b"the last one"
    told = [line for line in found if b"lines were dropped" in line]
    assert sum(int(line.split()[0]) for line in told) == dropped
    assert len(found) - len(told) == count + 1 - dropped
    assert not writer.is_stuck


def test_a_line_that_is_too_long_is_cut(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    writer.write("ä" * LINE_BYTES_MAX)
    writer.write("\ud800 stays one line")
    assert writer.flush(5.0)
    long, odd = read_all(pipe[0])
    assert len(long) < LINE_BYTES_MAX + 10
    assert long.decode().endswith("ä …")
    assert odd == b"\\ud800 stays one line"


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LineWriter(write_end)
    writer.write("nobody")
    assert writer.flush(5.0)
    assert writer.dropped == 1
    os.close(write_end)


def test_a_descriptor_that_somebody_made_non_blocking(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = LineWriter(pipe[1])
    for _ in range(100):
        writer.write("x" * 1000)
    assert not writer.flush(0.05)
    assert len(read_all(pipe[0])) == 100
    assert writer.dropped == 0
