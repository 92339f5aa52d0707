import time

import pytest

from reconciler.language.compiled import compiled
from reconciler.stalling import HurriedError, hurried


def test_what_an_expression_takes_is_told_by_the_engine() -> None:
    small, large = compiled("/item/[0-9]+"), compiled("/(?:[a-z]{1000}){12}")
    assert (small.fault, large.fault) == (None, None)
    assert 500 < small.weight < 5_000
    assert 400_000 < large.weight < 800_000
    assert compiled("/é[9-0]").fault == (
        "invalid character class range, the start must be <= the end, at character 4"
    )


def test_the_loop_compiles_for_a_moment_and_leaves_the_rest_to_a_thread() -> None:
    patterns = [f"/{number}/(?:[a-z]{{1000}}){{12}}" for number in range(40)]
    began = time.monotonic()
    with pytest.raises(HurriedError), hurried():
        _ = [compiled(pattern) for pattern in patterns]
    in_a_hurry = time.monotonic() - began
    began = time.monotonic()
    assert not any(compiled(pattern).fault for pattern in patterns)
    assert in_a_hurry < (time.monotonic() - began) / 2
    # What is known by then takes nothing.
    with hurried():
        assert not any(compiled(pattern).fault for pattern in patterns)
