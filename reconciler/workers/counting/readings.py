"""What was counted, as values: the numbers of a worker at one moment, and sums of such.

Pure. Called by `memory` and `counters` beside, `reconciler.reporting.monitoring.metrics` and
`reconciler.reporting.monitoring.measuring`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schemas.record import record

SERVING_KINDS = ("frontend", "cluster", "backend")
"""Kinds of entities that have requests in flight."""
SLOT_KINDS = (*SERVING_KINDS, "policy")
GAUGES = frozenset(("active", "connections", "drained", "tls_fault"))
# Gauges that say which of some things is so; 0 says that none is.
_CODES = frozenset(("tls_fault",))
# A name that does not fit ends in "~" and 8 hex digits (the engine's rule).
NAME_SUFFIX_BYTES = 9


class SlotKey(NamedTuple):
    """The entity that a slot counts for."""

    kind: str
    name: str


@record
class HistogramReading:
    """Counts per bucket (the last one has no bound) and the sum of what was measured."""

    bounds_us: tuple[int, ...]
    buckets: tuple[int, ...]
    sum_us: int


@record
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
            kept = room - NAME_SUFFIX_BYTES
            long = (name for name in self.names if len(name) > room)
            found = self._beginnings[room] = frozenset(name[:kept] + b"~" for name in long)
        return found

    def has(self, key: SlotKey, room: int) -> bool:
        """Whether the entity of a slot is one of them."""
        if key in self.keys:
            return True
        name = key.name.encode()
        return len(name) == room and name[: 1 - NAME_SUFFIX_BYTES] in self.beginnings(room)


def is_gauge(counter: str) -> bool:
    """Whether a counter of the worker as a whole goes up and down."""
    return counter.endswith("_now")


def without_gauges(reading: Reading) -> Reading:
    """What is left of a worker that has ended."""
    counters = {name: value for name, value in reading.counters.items() if not is_gauge(name)}
    slots = {
        key: {name: value for name, value in fields.items() if name not in GAUGES}
        for key, fields in reading.slots.items()
    }
    return Reading(counters, reading.histograms, slots)


def summed(past: Reading, live: Reading) -> Reading:
    """Of two workers of one slot, or of two slots."""
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
        slots[key] = added(past.slots.get(key, {}), fields)
    return Reading(added(past.counters, live.counters), histograms, slots)


def added(past: dict[str, int], live: dict[str, int]) -> dict[str, int]:
    """By name; of a code, which has no sum, the smaller one."""
    if not past:
        return live
    names = past.keys() | live.keys()
    both = {name: past.get(name, 0) + live.get(name, 0) for name in names}
    return both | {name: min(past[name], live[name]) for name in _CODES & past.keys() & live.keys()}
