"""Words of the command line: one of a thing, and several."""

from __future__ import annotations

import pytest

from reconciler.cli.output import count


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "day", "1 day"),
        (2, "day", "2 days"),
        (0, "policy", "0 policies"),
        (3, "settings", "3 settings"),
        (2, "frontend", "2 frontends"),
    ],
)
def test_one_and_several(number: int, noun: str, text: str) -> None:
    assert count(number, noun) == text
