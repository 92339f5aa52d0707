"""The order in which contenders are measured."""

from __future__ import annotations

from bench.measuring.contenders import Contender
from bench.measuring.rounds import in_turn


def test_each_warms_up_and_no_place_is_the_better_one() -> None:
    running = [Contender(name, 0, None, list) for name in ("a", "b", "c")]
    measured: list[tuple[str, int]] = []

    def one(contender: Contender, seconds: int) -> int:
        measured.append((contender.name, seconds))
        return len(measured)

    found = in_turn(running, one, rounds=3, seconds=7)
    names = "".join(name for name, _ in measured)
    assert names == "abc" + "abc" + "cba" + "abc"
    assert [seconds for _, seconds in measured] == [1] * 3 + [7] * 9
    assert found == {"a": [4, 9, 10], "b": [5, 8, 11], "c": [6, 7, 12]}
