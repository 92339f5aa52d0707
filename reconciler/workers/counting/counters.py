"""One slot's counters: those of the worker that is in it now, and of all that were before.

What a worker that has ended had counted is kept (`retire`) and added to what its successor counts,
so that no counter of a slot goes backwards. Called by `reconciler.workers.slots.tending`,
`reconciler.reporting.monitoring.metrics`, `reconciler.reporting.control.draining` and for status.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator

from reconciler.workers.counting.memfd import SharedMemory
from reconciler.workers.counting.readings import (
    Reading,
    SlotKey,
    Wanted,
    summed,
    without_gauges,
)

# Of a worker that ends with more slots in use, only those are kept that a scrape has asked for.
_KEPT_SLOTS_MAX = 20_000
_NOBODY = Wanted(())


class Counters:
    """One slot's counters, over all workers that were ever in it."""

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None
        self._past = Reading({}, {}, {})
        self._wanted: Wanted | None = None
        self._keeping = threading.Lock()

    def attach(self, descriptor: int) -> None:
        """Takes over the memfd of the worker that is in the slot now."""
        self.retire()
        try:
            self._memory = SharedMemory(descriptor)
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
            counted = without_gauges(memory.read(wanted))
        with self._keeping:
            self._past, self._memory = summed(self._past, counted), None
        memory.let_go()

    def read(self, wanted: Wanted | None = None) -> Reading:
        """What the slot has counted: of all entities that had a request, or of the wanted.

        Costs in proportion to the slots in use, little for those that are not wanted.
        """
        self._wanted = wanted
        with self._held() as memory:
            if memory is None:
                return self._past
            live = memory.read(wanted)
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
            return summed(self._past, live)

    def fields(self, wanted: Wanted) -> dict[SlotKey, dict[str, int]]:
        """The numbers about some entities, now."""
        with self._held() as memory:
            return memory.read(wanted).slots if memory else {}

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
            return memory.values_of(SlotKey(kind, name), field) if memory else []

    @contextlib.contextmanager
    def _held(self) -> Iterator[SharedMemory | None]:
        """The memory for a reading, in whatever thread; None when there is none."""
        memory = self._memory
        if memory is None or not memory.hold():
            yield None
            return
        try:
            yield memory
        finally:
            memory.let_go()
