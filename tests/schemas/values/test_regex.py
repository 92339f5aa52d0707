import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from schemas.values.regex import PATTERN_CHARS_MAX, check_regex, literal_prefix


@pytest.mark.parametrize(
    "pattern",
    [
        "/item/[0-9]+",
        r"/(?P<id>\d+)/(?:a|b)?",
        "(?<id>x)",
        "(?i)abc",
        "(?i:abc)d",
        r"\p{Greek}\pL\x{1F600}\u0041",
        "[]a]",
        "[^]a]",
        "[[:alpha:]]",
        r"[a\]b]",
        "[a&&[^b]]",
        "a{2}b{2,}c{2,3}",
        "(a+)+",
        r"a\.b\z",
        r"\b{start}a\b{end-half}",
        "[+-[a-z]",
        "[-[a]b]",
        "[a-z--[b]]",
        "a**",
        "()",
    ],
)
def test_what_the_engine_takes(pattern: str) -> None:
    assert check_regex(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)", "look-ahead"),
        ("(?!a)", "look-ahead"),
        ("(?<=a)", "look-behind"),
        ("(?<!a)", "look-behind"),
        ("(?>a)", "atomic"),
        (r"(a)\1", "back-reference"),
        ("(?P<x>a)(?P=x)", "back-reference"),
        ("(?(1)a)", "conditional"),
        ("(?#a)", "comment"),
        ("(?y)", "no known kind"),
        ("(a", r'"\(" at character 1 is never closed'),
        ("a)", r'"\)" at character 2 closes nothing'),
        ("[a", r'"\[" at character 1 is never closed'),
        ("*a", r'"\*" at character 1 repeats nothing'),
        ("a|+", "repeats nothing"),
        ("(+a)", "repeats nothing"),
        ("a{x}", "is not a count"),
        ("a{3,2}", "ends before it begins"),
        ("a{1001}", "more than 1000 times"),
        ("a\\", "lone backslash"),
        (r"a\Z", r"the end is"),
        (r"\p{L", "never closed"),
        ("[a\\", "lone backslash"),
        (r"[\b]", "a place and no character"),
    ],
)
def test_what_it_does_not_take(pattern: str, reason: str) -> None:
    with pytest.raises(PydanticCustomError, match=reason):
        check_regex(pattern)


def test_what_is_no_pattern() -> None:
    for wrong in ("", 5, "a" * (PATTERN_CHARS_MAX + 1)):
        with pytest.raises(PydanticCustomError, match="regular expression"):
            check_regex(wrong)


@given(st.text(r"ab()[]{}?*+|\^$.<!=:#P1,-&", max_size=20))
def test_no_pattern_breaks_the_check(pattern: str) -> None:
    with contextlib.suppress(PydanticCustomError):
        assert check_regex(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("/item/[0-9]+", "/item/"),
        ("^/item", "/item"),
        ("/items?", "/item"),
        ("/item+", "/item"),
        ("/a|/b", ""),
        ("(?i)/a", ""),
        ("/a/(b)", "/a/"),
        (".*", ""),
    ],
)
def test_the_literal_prefix(pattern: str, prefix: str) -> None:
    assert literal_prefix(pattern) == prefix
