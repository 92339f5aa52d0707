"""The journal: an append-only file of records that survive a power cut at any byte.

A record is `u32 length | u32 crc32 | JSON`. Appending ends in `fdatasync`; opening reads up to the
first record that is torn or damaged and truncates the rest, so that what is read is always a prefix
of what was written. It knows nothing of what the records mean: that is `reconciler.storage.store`.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reconciler.durable import sync_directory, write_durably

HEADER_BYTES = 8
# One commit's entities; the loader's limits keep a commit far below.
RECORD_BYTES_MAX = 512 * 1024 * 1024

Record = dict[str, Any]


def frame(record: Record) -> bytes:
    """One record as it lies in the file."""
    body = json.dumps(record, separators=(",", ":")).encode("ascii")
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def read_frames(content: bytes) -> Iterator[tuple[Record, int]]:
    """(record, offset of its end), up to the first torn or damaged one."""
    start = 0
    while start + HEADER_BYTES <= len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        checksum = int.from_bytes(content[start + 4 : start + 8], "big")
        end = start + HEADER_BYTES + length
        if length > RECORD_BYTES_MAX or end > len(content):
            return
        body = content[start + HEADER_BYTES : end]
        if zlib.crc32(body) != checksum:
            return
        try:
            record = json.loads(body)
        except ValueError:
            return
        if not isinstance(record, dict):
            return
        yield record, end
        start = end


def read_records(path: Path) -> list[Record]:
    """The records of a journal that cannot be opened for writing, as far as they can be read."""
    try:
        return [record for record, _ in read_frames(path.read_bytes())]
    except OSError:
        return []


class Journal:
    """The open file. After a failed append the tail is cut off again before the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        content = path.read_bytes()
        self.records: list[Record] = []
        self.size = 0
        for record, end in read_frames(content):
            self.records.append(record)
            self.size = end
        self.truncated_bytes = len(content) - self.size
        if self.truncated_bytes:
            os.ftruncate(self.file, self.size)
            os.fdatasync(self.file)
        sync_directory(path.parent)

    def append(self, record: Record, *, durable: bool = True) -> None:
        """Writes a record; returns when it is on disk. Raises `OSError` and then holds nothing.

        `durable=False` leaves the sync to the next durable append.
        """
        content = frame(record)
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self.file, content[written:], self.size + written)
            if durable:
                os.fdatasync(self.file)
        except OSError:
            self._cut()
            raise
        self.size += len(content)

    def restart(self, records: list[Record]) -> None:
        """Replaces the content atomically: what came before is in a snapshot now."""
        temporary = self.path.with_suffix(".new")
        content = b"".join(frame(record) for record in records)
        write_durably(temporary, content)
        temporary.rename(self.path)
        sync_directory(self.path.parent)
        os.close(self.file)
        self.file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.size = len(content)

    def close(self) -> None:
        """The file stays as it is."""
        os.close(self.file)

    def _cut(self) -> None:
        # A half-written record would be cut at the next start anyway; cutting it now keeps a later
        # append from making it whole. When even this fails, the append after it overwrites it.
        try:
            os.ftruncate(self.file, self.size)
            os.fdatasync(self.file)
        except OSError:
            return
