"""What befell the state is told with its time, and not for ever."""

from __future__ import annotations

import re

from reconciler.storage.notes import TOLD_S, Notes


def test_a_note_is_told_with_its_time_for_a_day() -> None:
    now = [100.0]
    notes = Notes(lambda: now[0])
    notes.add("the first")
    now[0] += TOLD_S / 2
    notes.add("the second")
    first, second = notes.told()
    assert re.fullmatch(r"the first \(\d{4}-\d\d-\d\d \d\d:\d\d UTC\)", first)
    now[0] += TOLD_S / 2
    assert notes.told() == [second]
    now[0] += TOLD_S / 2
    assert notes.told() == []


def test_what_a_commit_settles_leaves_with_it() -> None:
    notes = Notes()
    notes.add("it is old", until_applied=True)
    notes.add("it was written anew")
    notes.applied()
    [left] = notes.told()
    assert left.startswith("it was written anew")


def test_the_newest_are_kept() -> None:
    notes = Notes()
    for number in range(100):
        notes.add(f"number {number},")
    told = notes.told()
    assert len(told) < 20
    assert told[-1].startswith("number 99,")
