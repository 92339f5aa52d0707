"""The daemon looks for garbage when nobody waits, and finds it then."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler import garbage


class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


def test_nothing_is_looked_for_while_much_is_made() -> None:
    garbage.put_off()
    looked: list[Any] = []
    noting = lambda *phase: looked.append(phase)  # noqa: E731  # to be taken away again
    gc.callbacks.append(noting)
    try:
        kept = [[each] for each in range(200_000)]
    finally:
        gc.callbacks.remove(noting)
    assert len(kept) == 200_000
    assert not looked


def test_it_is_found_between_two_looks() -> None:
    garbage.put_off()
    gc.collect()
    rings = [Ring() for _ in range(5_000)]
    gone = weakref.ref(rings[0])
    del rings
    assert gone() is not None
    garbage.collect_if_due()
    assert gone() is None


def test_little_is_left_until_it_is_more() -> None:
    garbage.put_off()
    gc.collect()
    gone = weakref.ref(Ring())
    garbage.collect_if_due()
    assert gone() is not None
