"""The numbers of reasons in shared memory, and their words."""

from __future__ import annotations

import re
from pathlib import Path

from reconciler.reporting import tls_faults

ENGINE = Path(__file__).parents[3] / "proxy" / "engine" / "src" / "tls" / "fault.rs"


class Counted:
    def __init__(self, number: int) -> None:
        self.number = number

    def slot_least(self, kind: str, name: str, field: str) -> int:
        assert (kind, name, field) == ("backend", "shop/a", "tls_fault")
        return self.number


def test_the_words_and_their_order_are_the_engines() -> None:
    engine = re.findall(r'^    [A-Z]\w+ = "(\w+)",$', ENGINE.read_text(), re.MULTILINE)
    assert engine == list(tls_faults.SENTENCES)
    assert [tls_faults.word(number + 1) for number in range(len(engine))] == engine


def test_a_number_of_another_version_says_nothing() -> None:
    assert tls_faults.word(0) is None
    assert tls_faults.word(1000) is None
    assert tls_faults.fault_of("shop/a", [Counted(0), Counted(1000)]) is None


def test_one_worker_that_fails_is_told() -> None:
    assert tls_faults.fault_of("shop/a", [Counted(0), Counted(2)]) == (
        "its certificate has expired"
    )
