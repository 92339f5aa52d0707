"""Against memory laid out as the contract says, and against the engine's own."""

from __future__ import annotations

import itertools
import json
import os
import struct
import threading
import time

import pytest

from proxy.engine_api import EngineApi
from reconciler.workers.counting.counters import Counters
from reconciler.workers.counting.readings import HistogramReading, SlotKey, Wanted
from tests.reconciler.memory import FIELDS, OF_FRONTENDS, Memory


def test_what_was_counted_is_read() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.count(requests_total=7, connections_now=2, generation_now=1)
    memory.slot(0, "frontend", "web", requests=5)
    memory.slot(40_000, "backend", "shop/a", requests=4, active=3)
    reading = counters.read()
    assert reading.counters == {"requests_total": 7, "connections_now": 2, "generation_now": 1}
    assert reading.slots[SlotKey("frontend", "web")]["requests"] == 5
    assert reading.slots[SlotKey("backend", "shop/a")] == {
        **dict.fromkeys(FIELDS, 0),
        "requests": 4,
        "active": 3,
    }
    assert len(reading.slots) == 2
    assert reading.histograms == {"request_duration": HistogramReading((10, 20), (0, 0, 0), 0)}


def test_reading_does_not_allocate_what_nobody_uses() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.slot(0, "frontend", "web")
    counters.read()
    assert os.fstat(memory.descriptor).st_blocks * 512 < 64 * 1024


def test_a_successor_goes_on_from_where_its_predecessor_ended() -> None:
    counters = Counters()
    first = Memory()
    counters.attach(first.duplicate())
    first.count(requests_total=10, connections_now=4, generation_now=3)
    first.measure(3, 2, 1, sum_us=100)
    first.slot(0, "frontend", "web", requests=9, active=2)
    first.slot(1, "frontend", "gone", requests=1)
    counters.retire()
    assert counters.read().counters == {"requests_total": 10}
    second = Memory()
    counters.attach(second.duplicate())
    # It has loaded nothing yet: what was counted is not forgotten for that.
    assert counters.read().slots[SlotKey("frontend", "web")]["requests"] == 9
    second.count(requests_total=1, generation_now=3)
    second.measure(1, 0, 0, sum_us=5)
    wanted = Wanted([SlotKey("frontend", "web")])
    # Nobody has asked for it yet.
    before = counters.read(wanted)
    assert before.slots[SlotKey("frontend", "web")]["requests"] == 9
    second.slot(5, "frontend", "web", requests=2)
    reading = counters.read(wanted)
    assert reading.counters == {"requests_total": 11, "connections_now": 0, "generation_now": 3}
    assert reading.slots == {
        SlotKey("frontend", "web"): {
            **{OF_FRONTENDS.get(name, name): 0 for name in FIELDS},
            "requests": 11,
        }
    }
    assert counters.read().slots == reading.slots, "what is gone is forgotten"
    assert reading.histograms["request_duration"] == HistogramReading((10, 20), (4, 2, 1), 105)


def test_of_a_policy_nothing_is_read_that_it_does_not_count() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.count(generation_now=1)
    memory.slot(0, "policy", "login", responses_1xx=3, requests=9)
    login, other = SlotKey("policy", "login"), SlotKey("policy", "other")
    assert counters.read().slots == {login: {"rate_limited": 3}}
    found = counters.read(Wanted((login, other))).slots
    assert found == {login: {"rate_limited": 3}, other: {"rate_limited": 0}}


def test_an_entity_without_a_request_has_counted_nothing() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.count(generation_now=1)
    memory.slot(0, "frontend", "web", requests=2)
    # A name that does not fit has a slot under another one, which is not told from others here.
    names = ("web", "idle", "x" * 200)
    found = counters.read(Wanted(SlotKey("frontend", name) for name in names)).slots
    assert [(key.name, fields["requests"]) for key, fields in found.items()] == [
        ("web", 2),
        ("idle", 0),
    ]


def test_a_freed_slot_is_not_read() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.slot(0, "backend", "shop/a", active=1)
    assert counters.slot_field("backend", "shop/a", "active") == 1
    memory.free(0)
    assert counters.slot_field("backend", "shop/a", "active") == 0
    memory.slot(0, "backend", "shop/b", active=5)
    memory.slot(1, "backend", "shop/a", active=2)
    assert counters.slot_field("backend", "shop/a", "active") == 2


def test_a_slot_that_goes_to_another_while_it_is_read_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The names have all of the first word in common; what was read may be half of each."""
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.slot(0, "backend", "shop/a1", requests=7)
    memory.slot(1, "backend", "shop/b1", requests=3)
    read, turns = os.pread, itertools.count(1)

    def read_and_change(descriptor: int, length: int, offset: int) -> bytes:
        content = read(descriptor, length, offset)
        memory.free(0)
        memory.slot(0, "backend", "shop/a2", turn=next(turns))
        return content

    monkeypatch.setattr(os, "pread", read_and_change)
    found = counters.read().slots
    assert set(found) == {SlotKey("backend", "shop/b1")}
    monkeypatch.undo()
    assert set(counters.read().slots) == {
        SlotKey("backend", "shop/a2"),
        SlotKey("backend", "shop/b1"),
    }


def test_slots_of_one_name_are_added_up() -> None:
    """A backend whose address has changed: the requests at the old one are its requests, too."""
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.slot(3, "backend", "shop/a", active=1, requests=7)
    memory.slot(4, "cluster", "shop/a", active=9)
    memory.slot(5, "backend", "shop/ab", active=9)
    memory.slot(6, "backend", "a/shop/a", active=9)
    memory.slot(7, "backend", "shop/a", active=2, requests=1)
    assert counters.slot_field("backend", "shop/a", "active") == 3
    assert counters.read().slots[SlotKey("backend", "shop/a")]["requests"] == 8


def test_a_name_that_does_not_fit_is_found_by_its_beginning() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    name = "c" * 63 + "/" + "b" * 63
    memory.slot(0, "backend", name[:107] + "~0123abcd", active=1)
    assert counters.slot_field("backend", name, "active") == 1


def test_only_what_is_wanted_is_read() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    room = 256 - 4 - 8 * len(FIELDS)
    long = "c" * 63 + "/" + "b" * 63
    for number in range(0, 60_000, 20):
        memory.slot(number, "backend", f"shop/b{number}", active=1, requests=2)
    memory.slot(7, "frontend", "web", requests=3)
    memory.slot(8, "cluster", "web", requests=9)
    memory.slot(9, "backend", long[: room - 9] + "~0123abcd", requests=4)
    memory.slot(59_999, "backend", "shop/last", requests=5)
    asked = [("frontend", "web"), ("backend", "shop/b40"), ("backend", long), ("backend", "shop/x")]
    wanted = Wanted(SlotKey(*each) for each in (*asked, ("backend", "shop/last")))
    found = counters.read(wanted).slots
    assert {(key.kind, key.name[:9]): fields["requests"] for key, fields in found.items()} == {
        ("frontend", "web"): 3,
        ("backend", "shop/b40"): 2,
        ("backend", "ccccccccc"): 4,
        ("backend", "shop/last"): 5,
    }
    assert counters.fields(wanted) == found
    # What was asked for is kept when the worker ends, and nothing else of so many.
    counters.retire()
    successor = Memory()
    counters.attach(successor.duplicate())
    successor.count(generation_now=1)
    for number, name in enumerate(("shop/b40", "shop/b60")):
        successor.slot(number, "backend", name, requests=10)
    again = counters.read(wanted).slots
    assert again[SlotKey("backend", "shop/b40")]["requests"] == 12
    assert counters.read().slots[SlotKey("backend", "shop/b60")]["requests"] == 10


def test_of_a_worker_with_many_that_nobody_asked_for_only_its_own_numbers_are_kept() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.count(requests_total=7)
    for number in range(30_000):
        memory.slot(number, "backend", f"shop/b{number}")
    counters.retire()
    assert (counters.read().counters["requests_total"], counters.read().slots) == (7, {})


def test_a_fault_is_over_when_one_address_is_well() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.slot(0, "backend", "shop/a", tls_fault=3, requests=1)
    assert counters.slot_least("backend", "shop/a", "tls_fault") == 3
    memory.slot(1, "backend", "shop/a", tls_fault=0, requests=2)
    assert counters.slot_least("backend", "shop/a", "tls_fault") == 0
    assert counters.read().slots[SlotKey("backend", "shop/a")]["tls_fault"] == 0
    assert counters.read().slots[SlotKey("backend", "shop/a")]["requests"] == 3
    assert counters.slot_least("backend", "shop/b", "tls_fault") == 0
    memory.slot(9_000, "backend", "shop/far", tls_fault=16)
    memory.slot(2, "backend", "shop/freed", tls_fault=5)
    memory.free(2)
    assert counters.with_code("backend", "tls_fault") == {"shop/a", "shop/far"}
    assert counters.with_code("cluster", "tls_fault") == set()
    assert counters.with_code("backend", "unheard_of") == set()


def test_gauges_of_the_worker() -> None:
    memory, counters = Memory(), Counters()
    assert counters.gauge("connections_now") == 0
    counters.attach(memory.duplicate())
    memory.count(connections_now=3)
    assert counters.gauge("connections_now") == 3
    assert counters.gauge("unheard_of_now") == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"KAKEHI02" + bytes(100), b"KAKEHI01" + struct.pack("<QI", 50, 0) + b"{}" + bytes(60)],
)
def test_memory_of_another_kind_is_ignored(content: bytes) -> None:
    descriptor = os.memfd_create("other")
    os.write(descriptor, content)
    counters = Counters()
    counters.attach(descriptor)
    assert counters.read().counters == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_engines_own_memory_is_understood() -> None:
    engine = EngineApi(0, None)
    counters = Counters()
    counters.attach(os.dup(engine.metrics_fd))
    ops = {
        "puts": [
            {
                "kind": "cluster",
                "name": "shop",
                "value": {},
            },
        ],
        "removes": [],
    }
    text = json.dumps(ops, sort_keys=True, separators=(",", ":"))
    engine.stage(1, 0, text, {})
    engine.prepare(1, (0, "0" * 32), "c", 1, {})
    engine.commit(1)
    assert counters.read().slots == {}, "a slot comes with the first request"
    reading = counters.read(Wanted([SlotKey("cluster", "shop")]))
    assert reading.counters["generation_now"] == 1
    # Two of them count something else of a cluster.
    counted = set(FIELDS) - {"timeouts", "connect_errors"}
    assert counted <= set(reading.slots[SlotKey("cluster", "shop")])
    assert set(reading.histograms) == {"request_duration", "upstream_response", "connect_duration"}
    engine.shutdown(0)


def test_a_worker_that_ends_while_it_is_read() -> None:
    """A scrape reads in a thread: its descriptor must not be closed, or another's, meanwhile."""
    counters = Counters()
    ended, problems = threading.Event(), []

    def scrape() -> None:
        highest = 0
        while not ended.is_set():
            try:
                now = counters.read().counters.get("requests_total", 0)
            except Exception as error:  # noqa: BLE001  # it is what the test looks for
                problems.append(repr(error))
                return
            if now < highest:
                problems.append(f"{now} after {highest}")
                return
            highest = now

    reading = threading.Thread(target=scrape)
    reading.start()
    descriptors = len(os.listdir("/proc/self/fd"))
    total = 0
    for number in range(400):
        memory = Memory()
        for slot in range(20):
            memory.slot(slot, "frontend", f"web-{slot}", requests=1)
        memory.count(requests_total=5, generation_now=1)
        counters.attach(memory.duplicate())
        total += 5
        time.sleep(0.001 if number % 7 == 0 else 0)
    counters.retire()
    ended.set()
    reading.join()
    assert problems == []
    assert counters.read().counters["requests_total"] == total
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
