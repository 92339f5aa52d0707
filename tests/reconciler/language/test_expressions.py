import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.language.expressions import begins_with_slash


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"\.php$", r"^\.php", "api/.*", "^api", "(?i)index", r"\\x", "a|b", r"\d+", "^$", ""),
        *("[^/]+", "[a-z]+", "[^a/]", "(?:api|v1)/.*", "(api)", "((a)|b)*x", "(?P<n>a)/", "a?b/"),
        *(
            r"[\w.-]+/x",
            r"\w+/x",
            "[[:alpha:]]+",
            r"[^\W]",
            "(?i:a)",
            "/{0}a",
            r"\x61/",
            "(?:a?|b)c/",
        ),
        *(r"\bapi", r"[\x30-\x39]", "[]a]", "[^]/]", "(?i)(?:)a", "(?:/){0,0}a"),
        # Sets of sets.
        *("[[a-z][0-9]]+", "[a-z&&[^aeiou]]", r"[\w&&[^_]]/", "[[:alpha:]--a]", "[^/[a]]"),
        *("[/--/]", "[[/]~~[/a]]", "[^[^a]]", "[^[^a-z]&&[^0-9]]", "[a/&&b--c]", "[^a[^b]]"),
        *("[[:^punct:]]", "[a-z--[b]~~c]x", "[-a]", "[^[[/]]]"),
    ],
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
        *("$?/", "a{0,2}{2}/", r"\b*/", "^+[^]]", "a???/", "-{0}?."),
        *(
            "[a-z]*/x",
            "[!-~]",
            "(?:a?|b)/x",
            "(a|)/",
            "(?:^|x)/",
            r"[\W]",
            r"[^\w]",
            r"\p{P}",
            "((((/))))",
        ),
        *(
            "[[:punct:]]",
            r"\x{2F}",
            r"\u002F",
            "(?x) / a",
            "[a[/]]",
            "[+-9&&[^a]]",
            "(?:a|(?:b|/))",
            ".",
        ),
        *("[a[/]]", "[^a&&[^b]]", "[[^a]--b]", "[/~~a]", "[^[a-z]]", "[[:punct:]&&[^a]]"),
        *("[^[:^punct:]]", r"[\p{L}&&a]", "[^a--[^/]]", "[a-z[.-0]]", "[[/]&&/]", "[-/]", "[--/]"),
    ],
)
def test_what_may_match_one(pattern: str) -> None:
    assert begins_with_slash(pattern)


def test_any_depth_is_read() -> None:
    assert not begins_with_slash("(" * 1000 + "a" + ")" * 1000)
    assert begins_with_slash("(" * 1000 + "/" + ")" * 1000)


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


@given(st.text(alphabet="/ab.\\^*+?()|-dw", max_size=10))
def test_it_is_the_same_within_a_group(pattern: str) -> None:
    """Around whatever is one expression, a group and a repetition are no other."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return
    assert begins_with_slash(f"(?:{pattern})") == begins_with_slash(pattern)
    assert begins_with_slash(f"(?:{pattern})*") == begins_with_slash(pattern)
    assert begins_with_slash(f"(?:{pattern})?/")
