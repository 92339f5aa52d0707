"""Reads a worker's shared counters: its memfd, self-describing, written by the engine alone.

Read with `pread`, not mapped: reading a mapping would allocate the pages of the many slots that
nobody uses. What a worker that has ended had counted is kept (`retire`) and added to what its
successor counts, so that no counter of a slot goes backwards. Called by
`reconciler.workers.slots.supervisor`, `reconciler.reporting.metrics`,
`reconciler.storage.kept.drains` and for status.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

MAGIC = b"KAKEHI01"
SLOT_KINDS = ("frontend", "cluster", "backend")
GAUGES = frozenset(("active", "connections", "drained", "tls_fault"))
# Gauges that say which of some things is so; 0 says that none is.
_CODES = frozenset(("tls_fault",))
_HEADER_BYTES_MAX = 1 << 20
_HEADER_START = 16
_NAME_OFFSET = 4
# A name that does not fit ends in "~" and 8 hex digits (the engine's rule).
_NAME_SUFFIX_BYTES = 9
_READ_BYTES = 1 << 20
# Of a worker that ends with more slots in use, only those are kept that a scrape has asked for.
_KEPT_SLOTS_MAX = 20_000


class SlotKey(NamedTuple):
    """The entity that a slot counts for."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class HistogramReading:
    """Counts per bucket (the last one has no bound) and the sum of what was measured."""

    bounds_us: tuple[int, ...]
    buckets: tuple[int, ...]
    sum_us: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One worker's numbers at one moment."""

    counters: dict[str, int]
    histograms: dict[str, HistogramReading]
    slots: dict[SlotKey, dict[str, int]]


class Wanted:
    """The entities whose numbers somebody asks for."""

    def __init__(self, keys: Iterable[SlotKey]) -> None:
        self.keys = frozenset(keys)
        # Of several kinds: what is read beyond what is wanted is left out by its key.
        self.names = frozenset(key.name.encode() for key in self.keys)
        self._beginnings: dict[int, frozenset[bytes]] = {}

    def beginnings(self, room: int) -> frozenset[bytes]:
        """Of names that do not fit, what a slot has of them, up to the "~"."""
        found = self._beginnings.get(room)
        if found is None:
            kept = room - _NAME_SUFFIX_BYTES
            long = (name for name in self.names if len(name) > room)
            found = self._beginnings[room] = frozenset(name[:kept] + b"~" for name in long)
        return found

    def has(self, key: SlotKey, room: int) -> bool:
        """Whether the entity of a slot is one of them."""
        if key in self.keys:
            return True
        name = key.name.encode()
        return len(name) == room and name[: 1 - _NAME_SUFFIX_BYTES] in self.beginnings(room)


class _Memory:
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

    def words(self, offset: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", os.pread(self.descriptor, 8 * count, offset))

    def counter(self, name: str) -> int:
        try:
            index = self.counter_names.index(name)
        except ValueError:
            return 0
        return self.words(self.counters_offset + 8 * index, 1)[0]

    def slots(self, wanted: Wanted | None) -> Iterator[tuple[SlotKey, dict[str, int]]]:
        """(key, fields) of each used slot, or of the wanted. Several may have one key, see `_read`.

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
        cut = name[: 1 - _NAME_SUFFIX_BYTES]
        return length == self.name_bytes and cut in wanted.beginnings(self.name_bytes)

    def unused(self, keys: Iterable[SlotKey]) -> dict[SlotKey, dict[str, int]]:
        """What entities without a slot have counted."""
        nothing = dict.fromkeys(self.field_names, 0)
        # One whose name does not fit would stand under another one.
        room = self.name_bytes
        return {key: dict(nothing) for key in sorted(keys) if len(key.name.encode()) <= room}

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
        return key, dict(zip(self.field_names, values, strict=True))

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


_NOBODY = Wanted(())


class Counters:
    """One slot's counters, over all workers that were ever in it."""

    def __init__(self) -> None:
        self._memory: _Memory | None = None
        self._past = Reading({}, {}, {})
        self._wanted: Wanted | None = None
        self._keeping = threading.Lock()

    def attach(self, descriptor: int) -> None:
        """Takes over the memfd of the worker that is in the slot now."""
        self.retire()
        try:
            self._memory = _Memory(descriptor)
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            # A worker of another version: it serves, its numbers are not known.
            os.close(descriptor)

    def retire(self) -> None:
        """The worker has ended: keep what it had counted."""
        memory = self._memory
        if memory is None:
            return
        counted, wanted = Reading({}, {}, {}), self._wanted
        with contextlib.suppress(OSError, struct.error):
            if wanted is None and memory.used_at_most > _KEPT_SLOTS_MAX:
                wanted = _NOBODY
            counted = _without_gauges(_read(memory, wanted))
        with self._keeping:
            self._past, self._memory = _sum(self._past, counted), None
        memory.let_go()

    def read(self, wanted: Wanted | None = None) -> Reading:
        """What the slot has counted: of all entities that had a request, or of the wanted.

        Costs in proportion to the slots in use, little for those that are not wanted.
        """
        self._wanted = wanted
        with self._held() as memory:
            if memory is None:
                return self._past
            live = _read(memory, wanted)
        with self._keeping:
            if self._memory is not memory:
                # It ended meanwhile: what was just read is in the past already.
                return self._past
            if live.counters.get("generation_now") and wanted is not None:
                # An entity that is gone has no line any more; its past is forgotten with it. But a
                # successor that holds nothing yet says nothing about what is gone, and an entity
                # has no slot before its first request.
                room = memory.name_bytes
                slots = {key: it for key, it in self._past.slots.items() if wanted.has(key, room)}
                self._past = Reading(self._past.counters, self._past.histograms, slots)
                live.slots.update(memory.unused(wanted.keys - live.slots.keys()))
            return _sum(self._past, live)

    def fields(self, wanted: Wanted) -> dict[SlotKey, dict[str, int]]:
        """The numbers about some entities, now."""
        with self._held() as memory:
            return _read(memory, wanted).slots if memory else {}

    def with_code(self, kind: str, field: str) -> set[str]:
        """The names of the entities of a kind that have a slot in which a code is not 0."""
        with self._held() as memory:
            found = memory.with_code(field) if memory else ()
            return {key.name for key in found if key.kind == kind}

    def gauge(self, name: str) -> int:
        """One number about the worker as a whole, now."""
        with self._held() as memory:
            return memory.counter(name) if memory else 0

    def slot_field(self, kind: str, name: str, field: str) -> int:
        """One number about one entity, now; 0 when it has no slot.

        The sum over its slots: a backend whose address has changed has one for each address that
        still serves a request.
        """
        return sum(self._slot_values(kind, name, field))

    def slot_least(self, kind: str, name: str, field: str) -> int:
        """The smallest of them instead, for numbers that have no sum."""
        return min(self._slot_values(kind, name, field), default=0)

    def _slot_values(self, kind: str, name: str, field: str) -> list[int]:
        with self._held() as memory:
            if memory is None:
                return []
            encoded = name.encode()
            room = memory.name_bytes
            if len(encoded) > room:
                encoded = encoded[: room - _NAME_SUFFIX_BYTES] + b"~"
            key = SlotKey(kind, name)
            found = memory.slots_beginning(encoded)
            return [fields.get(field, 0) for slot, fields in found if _names(slot, key, room)]

    @contextlib.contextmanager
    def _held(self) -> Iterator[_Memory | None]:
        """The memory for a reading, in whatever thread; None when there is none."""
        memory = self._memory
        if memory is None or not memory.hold():
            yield None
            return
        try:
            yield memory
        finally:
            memory.let_go()


def _names(slot: SlotKey, wanted: SlotKey, room: int) -> bool:
    if slot == wanted:
        return True
    name = wanted.name.encode()
    if slot.kind != wanted.kind or len(name) <= room:
        return False
    return slot.name.encode().startswith(name[: room - _NAME_SUFFIX_BYTES] + b"~")


def _read(memory: _Memory, wanted: Wanted | None) -> Reading:
    values = memory.words(memory.counters_offset, len(memory.counter_names))
    histograms = {}
    for name, offset, bounds in memory.histograms:
        *buckets, total = memory.words(offset, len(bounds) + 2)
        histograms[name] = HistogramReading(bounds, tuple(buckets), total)
    slots: dict[SlotKey, dict[str, int]] = {}
    for key, fields in memory.slots(wanted):
        if wanted is not None and not wanted.has(key, memory.name_bytes):
            continue
        # An object in the worker owns its slot. One that was replaced under its name, and still
        # serves a request, counts beside its successor.
        slots[key] = _add(slots[key], fields) if key in slots else fields
    return Reading(dict(zip(memory.counter_names, values, strict=True)), histograms, slots)


def is_gauge(counter: str) -> bool:
    """Whether a counter of the worker as a whole goes up and down."""
    return counter.endswith("_now")


def _without_gauges(reading: Reading) -> Reading:
    counters = {name: value for name, value in reading.counters.items() if not is_gauge(name)}
    slots = {
        key: {name: value for name, value in fields.items() if name not in GAUGES}
        for key, fields in reading.slots.items()
    }
    return Reading(counters, reading.histograms, slots)


def _sum(past: Reading, live: Reading) -> Reading:
    histograms = dict(past.histograms)
    for name, reading in live.histograms.items():
        before = past.histograms.get(name)
        histograms[name] = reading
        if before is not None and before.bounds_us == reading.bounds_us:
            both = zip(before.buckets, reading.buckets, strict=True)
            buckets = tuple(one + other for one, other in both)
            total = before.sum_us + reading.sum_us
            histograms[name] = HistogramReading(reading.bounds_us, buckets, total)
    slots = dict(past.slots)
    for key, fields in live.slots.items():
        slots[key] = _add(past.slots.get(key, {}), fields)
    return Reading(_add(past.counters, live.counters), histograms, slots)


def _add(past: dict[str, int], live: dict[str, int]) -> dict[str, int]:
    if not past:
        return live
    names = past.keys() | live.keys()
    both = {name: past.get(name, 0) + live.get(name, 0) for name in names}
    return both | {name: min(past[name], live[name]) for name in _CODES & past.keys() & live.keys()}
