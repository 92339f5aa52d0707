import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from reconciler.language.document import read_document
from reconciler.language.normal_paths import in_paths, texts_of
from reconciler.language.raw import raw_entities
from reconciler.language.validator import validate
from schemas.routes.match import parse_path_text

BASE = """listeners: {l: {address: "127.0.0.1:1"}}
clusters: {c: {backends: {b: {address: "127.0.0.1:2"}}}}
frontends: {f: {listeners: [l], cluster: c, path: {regex: %s}}}
"""


@pytest.mark.parametrize(
    ("pattern", "better"),
    [
        ("/ü.*", "/%C3%BC"),
        ("/a%2fb", "/a%2Fb"),
        ("/a b", "/a%20b"),
        ("/%61", "/a"),
        (r"/a\ b|", None),
        ("/a(?:é|b)", None),
        ("/a[é]", None),
        ("/é*", None),
        ("/é{0,2}", None),
        ("/é{2}", "/%C3%A9"),
        ("/é|/b", None),
        ("/a%2Fb/%C3%BC", None),
        ("/x%[0-9A-F]{2}", None),
        ("/[]é]x", None),
        (r"/\p{L}+", None),
        ("(?i)/a%2fb", None),
        ("(?i)/é", "/%C3%A9"),
        (r"/a\?b=c", "/a%3Fb=c"),
    ],
)
def test_a_text_has_the_form_of_paths(pattern: str, better: str | None) -> None:
    folds = pattern.startswith("(?i)")
    texts = texts_of(pattern.removeprefix("(?i)"))
    assert next(filter(None, (in_paths(each, folds=folds) for each in texts)), None) == better


@given(st.text(max_size=12))
def test_no_path_as_it_is_matched_is_warned_of(text: str) -> None:
    try:
        path = parse_path_text("/" + quote(text, safe="/"))
    except PydanticCustomError:
        return
    texts = list(texts_of(re.escape(path)))
    assert "".join(texts) == path
    assert [in_paths(each, folds=False) for each in texts] == [None] * len(texts)


@pytest.mark.parametrize(
    ("regex", "hint"),
    [
        ('"/ü.*"', 'in paths it is "/%C3%BC"'),
        (r'"/a\\?b"', 'match the query with "query:"'),
        ('"/a%2Fb"', None),
        ('"/a%2fb", ignore_case: true', None),
    ],
)
def test_a_frontend_that_waits_for_ever_is_told(regex: str, hint: str | None) -> None:
    document = read_document("a.yaml", (BASE % regex).encode())
    for raw in raw_entities(document):
        validate(raw)
    assert [each.hint for each in document.warnings] == ([hint] if hint else [])
