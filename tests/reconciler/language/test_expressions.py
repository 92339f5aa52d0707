import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.language.expressions import begins_with_slash


@pytest.mark.parametrize(
    "pattern",
    [r"\.php$", r"^\.php", "api/.*", "^api", "(?i)index", r"\\x", "a|b", r"\d+", "^$", ""],
)
def test_what_matches_no_path(pattern: str) -> None:
    assert not begins_with_slash(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "/",
        r".*\.php",
        "^/api",
        "(?i)/index",
        "a|/b",
        "[^a]x",
        "[]/]x",
        "a?/b",
        "a*/b",
        "a{0,2}/b",
        "(/a|b)",
        "(?:/x)?",
        r"\W.*",
        r"\/a",
        r"\x2Fa",
        r"[a|b]|/c",
    ],
)
def test_what_may_match_one(pattern: str) -> None:
    assert begins_with_slash(pattern)


@given(
    st.text(alphabet="/ab.\\^$*+?()[]|{}0-d", max_size=12), st.text(alphabet="/ab.-", max_size=8)
)
def test_no_warning_is_false(pattern: str, rest: str) -> None:
    """Whatever matches a path at all is not warned of; Python's expressions are near enough."""
    if re.search(r"\[.*[\[|&~-]", pattern):
        # Python warns of sets that may come to mean something else.
        return
    try:
        found = re.fullmatch(pattern, f"/{rest}", re.ASCII)
    except (re.error, RecursionError, OverflowError):
        return
    if found is not None:
        assert begins_with_slash(pattern)
