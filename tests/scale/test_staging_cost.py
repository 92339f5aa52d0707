"""Staging a whole configuration costs so much for each file, however many there are."""

from __future__ import annotations

import gc
import time

import pytest

from reconciler.catalog.catalog import stage
from reconciler.catalog.views import MemoryView

pytestmark = pytest.mark.timed

_FEW, _MANY = 500, 4000


def _cost_s(count: int) -> float:
    files: dict[str, bytes | None] = {
        f"{number}.yaml": (
            f"clusters: {{c{number}: {{backends: {{a: {{address: '10.0.0.1:80'}}}}}}}}\n"
            f"frontends: {{f{number}: {{listeners: [public], hostname: h{number}.test, "
            f"cluster: c{number}}}}}\n"
        ).encode()
        for number in range(count)
    }
    files["listeners.yaml"] = b"listeners: {public: {address: '127.0.0.1:80'}}\n"
    # Who stages so much collects no garbage meanwhile (`reconciler.loop.large.loader`): that would
    # go through all that there is, other tests' things with it.
    gc.disable()
    try:
        began = time.process_time()
        assert not stage(MemoryView(), files).diagnostics
        return (time.process_time() - began) / count
    finally:
        gc.enable()


def test_the_cost_of_a_file_does_not_grow_with_their_number() -> None:
    few = min(_cost_s(_FEW) for _ in range(3))
    assert min(_cost_s(_MANY) for _ in range(2)) < 2 * few
