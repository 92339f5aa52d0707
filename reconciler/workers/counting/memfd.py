"""The memory in which a worker counts: its memfd, self-describing, written by the engine alone.

Read with `pread`, not mapped: reading a mapping would allocate the pages of the many slots that
nobody uses. Called by `counters` beside.
"""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterable, Iterator

from reconciler.workers.counting.readings import (
    NAME_SUFFIX_BYTES,
    SERVING_KINDS,
    SLOT_KINDS,
    HistogramReading,
    Reading,
    SlotKey,
    Wanted,
    added,
)

MAGIC = b"KAKEHI01"
_HEADER_BYTES_MAX = 1 << 20
_HEADER_START = 16
_NAME_OFFSET = 4
_READ_BYTES = 1 << 20


_NOTHING = ""
"""The name of a field in which a kind counts nothing."""


def _told(fields: dict[str, int]) -> dict[str, int]:
    fields.pop(_NOTHING, None)
    return fields


class SharedMemory:
    """The layout of one memfd, as its header describes it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        start = os.pread(descriptor, _HEADER_START, 0)
        length = int.from_bytes(start[8:12], "little")
        if start[:8] != MAGIC or not 0 < length <= _HEADER_BYTES_MAX:
            raise ValueError("not a memory of counters")
        header = json.loads(os.pread(descriptor, length, _HEADER_START))
        self.counter_names: list[str] = header["counters"]
        self.counters_offset: int = header["counters_offset"]
        self.histograms: list[tuple[str, int, tuple[int, ...]]] = [
            (each["name"], each["offset"], tuple(each["bounds_us"]))
            for each in header["histograms"]
        ]
        self.slots_offset: int = header["slots_offset"]
        self.slot_size: int = header["slot_size"]
        self.field_names: list[str] = header["slot_fields"]
        # What a kind has none of counts something else for it.
        others: dict[str, dict[str, str]] = header.get("slot_fields_of", {})
        self._names_of = {
            kind: [
                others.get(kind, {}).get(name, name if kind in SERVING_KINDS else _NOTHING)
                for name in self.field_names
            ]
            for kind in SLOT_KINDS
        }
        self._fields = struct.Struct(f"<{len(self.field_names)}Q")
        # The fields end a slot, so that one of another version with fewer of them is read too.
        self._fields_offset = self.slot_size - self._fields.size
        self.name_bytes = self._fields_offset - _NAME_OFFSET
        # A scrape reads in a thread while the worker may end: the last to let go closes.
        self._users = 1
        self._counting = threading.Lock()

    def hold(self) -> bool:
        """Keep the descriptor for a reading; False when it is closed already."""
        with self._counting:
            if self._users:
                self._users += 1
            return self._users > 0

    def let_go(self) -> None:
        """The end of a reading, and once that of the worker."""
        with self._counting:
            self._users -= 1
            if not self._users:
                os.close(self.descriptor)

    def read(self, wanted: Wanted | None) -> Reading:
        """All that the worker has counted, of the wanted entities or of all that have a slot."""
        values = self.words(self.counters_offset, len(self.counter_names))
        histograms = {}
        for name, offset, bounds in self.histograms:
            *buckets, total = self.words(offset, len(bounds) + 2)
            histograms[name] = HistogramReading(bounds, tuple(buckets), total)
        slots: dict[SlotKey, dict[str, int]] = {}
        for key, fields in self.slots(wanted):
            if wanted is not None and not wanted.has(key, self.name_bytes):
                continue
            # An object in the worker owns its slot. One that was replaced under its name, and still
            # serves a request, counts beside its successor.
            slots[key] = added(slots[key], fields) if key in slots else fields
        return Reading(dict(zip(self.counter_names, values, strict=True)), histograms, slots)

    def values_of(self, key: SlotKey, field: str) -> list[int]:
        """One number of each slot that one entity has, without a look at the others."""
        encoded = key.name.encode()
        if len(encoded) > self.name_bytes:
            encoded = encoded[: self.name_bytes - NAME_SUFFIX_BYTES] + b"~"
        wanted = Wanted((key,))
        return [
            fields.get(field, 0)
            for slot, fields in self.slots_beginning(encoded)
            if slot.kind == key.kind and wanted.has(slot, self.name_bytes)
        ]

    def words(self, offset: int, count: int) -> tuple[int, ...]:
        """So many numbers that lie in a row."""
        return struct.unpack(f"<{count}Q", os.pread(self.descriptor, 8 * count, offset))

    def counter(self, name: str) -> int:
        """One number about the worker as a whole; 0 when it has none of the name."""
        try:
            index = self.counter_names.index(name)
        except ValueError:
            return 0
        return self.words(self.counters_offset + 8 * index, 1)[0]

    def slots(self, wanted: Wanted | None) -> Iterator[tuple[SlotKey, dict[str, int]]]:
        """(key, fields) of each used slot, or of the wanted. Several may have one key, see `read`.

        A slot that nobody wants is looked at by its name alone.
        """
        size = self.slot_size
        for content, later in self._written():
            states = content[::size]
            at = states.find(1)
            while at >= 0:
                if wanted is None or self._is_wanted(content, at * size, wanted):
                    found = self._slot(content, later, at * size)
                    if found is not None:
                        yield found
                at = states.find(1, at + 1)

    def with_code(self, field: str) -> Iterator[SlotKey]:
        """The entities of the slots in which a code is not 0; the others cost next to nothing."""
        if field not in self.field_names:
            return
        size = self.slot_size
        offset = self._fields_offset + 8 * self.field_names.index(field)
        for content, later in self._written():
            # Codes are small: the lowest byte says it.
            codes = content[offset::size]
            if not codes.strip(b"\0"):
                continue
            for number, code in enumerate(codes):
                found = self._slot(content, later, number * size) if code else None
                if found is not None:
                    yield found[0]

    def _is_wanted(self, content: bytes, start: int, wanted: Wanted) -> bool:
        length = content[start + 2]
        name = content[start + _NAME_OFFSET : start + _NAME_OFFSET + length]
        if name in wanted.names:
            return True
        cut = name[: 1 - NAME_SUFFIX_BYTES]
        return length == self.name_bytes and cut in wanted.beginnings(self.name_bytes)

    def unused(self, keys: Iterable[SlotKey]) -> dict[SlotKey, dict[str, int]]:
        """What entities without a slot have counted."""
        # One whose name does not fit would stand under another one.
        room = self.name_bytes
        short = (key for key in sorted(keys) if len(key.name.encode()) <= room)
        names = self._names_of
        return {key: _told(dict.fromkeys(names[key.kind], 0)) for key in short}

    @property
    def used_at_most(self) -> int:
        """How many slots may be in use, without a look at any."""
        return sum(count for _, count in self._extents())

    def slots_beginning(self, name: bytes) -> Iterator[tuple[SlotKey, dict[str, int]]]:
        """Those of the used slots whose names begin like this, without a look at the others."""
        size = self.slot_size
        for content, later in self._written():
            at = content.find(name)
            while at >= 0:
                number, offset = divmod(at, size)
                found = self._slot(content, later, number * size)
                if offset == _NAME_OFFSET and found is not None:
                    yield found
                at = content.find(name, at + 1)

    def _slot(self, content: bytes, later: bytes, at: int) -> tuple[SlotKey, dict[str, int]] | None:
        # The first word has the slot's turn: it differs when the slot went to another entity while
        # it was read, whatever the names of both have in common.
        if content[at : at + 8] != later[at : at + 8]:
            return None
        content = content[at : at + self.slot_size]
        if len(content) < self.slot_size or content[0] != 1 or content[1] >= len(SLOT_KINDS):
            return None
        name = content[_NAME_OFFSET : _NAME_OFFSET + content[2]].decode(errors="replace")
        values = self._fields.unpack_from(content, self._fields_offset)
        key = SlotKey(SLOT_KINDS[content[1]], name)
        return key, _told(dict(zip(self._names_of[key.kind], values, strict=True)))

    def _slot_offset(self, number: int) -> int:
        return self.slots_offset + number * self.slot_size

    def _written(self) -> Iterator[tuple[bytes, bytes]]:
        """Each part of the slots that was ever written, whole slots; read, and read again.

        A bounded number at a time.
        """
        most = max(1, _READ_BYTES // self.slot_size)
        for first, count in self._extents():
            for number in range(first, first + count, most):
                length = min(most, first + count - number) * self.slot_size
                begin = self._slot_offset(number)
                content = os.pread(self.descriptor, length, begin)
                yield content, os.pread(self.descriptor, length, begin)

    def _extents(self) -> Iterator[tuple[int, int]]:
        """(first slot, how many) of each part that was ever written."""
        # It becomes longer as more slots are used.
        end = os.fstat(self.descriptor).st_size
        position = self.slots_offset
        while position < end:
            try:
                start = os.lseek(self.descriptor, position, os.SEEK_DATA)
                hole = os.lseek(self.descriptor, start, os.SEEK_HOLE)
            except OSError:
                return
            first = max(0, start - self.slots_offset) // self.slot_size
            last = -(-(min(hole, end) - self.slots_offset) // self.slot_size)
            if last > first:
                yield first, last - first
            position = hole
