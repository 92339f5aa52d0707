"""A worker's shared counters as the contract lays them out, for the tests of what reads them."""

from __future__ import annotations

import json
import os
import struct

FIELDS = (
    "tls_fault",
    *("requests", "responses_1xx", "responses_2xx", "responses_3xx", "responses_4xx"),
    *("responses_5xx", "connect_errors", "active", "connections", "bytes_in", "bytes_out"),
    *("duration_us", "retries", "drained", "timeouts", "reuses"),
)
OF_FRONTENDS = {"reuses": "responses_429"}
"""What a frontend counts in the place of what it has none of."""
OF_POLICIES = {"responses_1xx": "rate_limited"}
"""All that a policy counts."""
COUNTERS = ("requests_total", "connections_now", "generation_now")
_COUNTERS_OFFSET = 4096
_HISTOGRAM_OFFSET = 4096 + 64
_SLOTS_OFFSET = 8192
_SLOTS = 65_536
_KINDS = ("frontend", "cluster", "backend", "policy")


class Memory:
    """One memfd, written as an engine writes it."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("counters")
        os.ftruncate(self.descriptor, _SLOTS_OFFSET + 256 * _SLOTS)
        header = {
            "counters_offset": _COUNTERS_OFFSET,
            "counters": COUNTERS,
            "histograms": [
                {"name": "request_duration", "offset": _HISTOGRAM_OFFSET, "bounds_us": [10, 20]}
            ],
            "slots_offset": _SLOTS_OFFSET,
            "slot_size": 256,
            "slot_fields": FIELDS,
            "slot_fields_of": {"frontend": OF_FRONTENDS, "policy": OF_POLICIES},
        }
        text = json.dumps(header).encode()
        start = b"KAKEHI01" + struct.pack("<II", len(text), 0)
        os.pwrite(self.descriptor, start + text, 0)

    def __del__(self) -> None:
        os.close(self.descriptor)

    def duplicate(self) -> int:
        """A descriptor for a reader to own."""
        return os.dup(self.descriptor)

    def count(self, **values: int) -> None:
        for name, value in values.items():
            self._word(_COUNTERS_OFFSET + 8 * COUNTERS.index(name), value)

    def measure(self, *buckets: int, sum_us: int) -> None:
        for position, value in enumerate((*buckets, sum_us)):
            self._word(_HISTOGRAM_OFFSET + 8 * position, value)

    def slot(self, number: int, kind: str, name: str, turn: int = 0, **fields: int) -> None:
        offset = _SLOTS_OFFSET + 256 * number
        for field, value in fields.items():
            self._word(offset + 256 - 8 * (len(FIELDS) - FIELDS.index(field)), value)
        text = name.encode()
        head = bytes((1, _KINDS.index(kind), len(text), turn)) + text
        os.pwrite(self.descriptor, head, offset)

    def free(self, number: int) -> None:
        os.pwrite(self.descriptor, bytes(8), _SLOTS_OFFSET + 256 * number)

    def _word(self, offset: int, value: int) -> None:
        os.pwrite(self.descriptor, struct.pack("<Q", value), offset)
