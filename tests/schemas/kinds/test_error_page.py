import pytest

from schemas.policies.error_page import ErrorPage
from schemas.values.content import BODY_BYTES_MAX
from tests.schemas.refusals import refusal


def test_a_page_is_html_unless_it_says_otherwise() -> None:
    assert ErrorPage(body="x").in_full() == {
        "body": "x",
        "content_type": "text/html; charset=utf-8",
    }


@pytest.mark.parametrize(
    ("pages", "sentence"),
    [
        ({"200": {"body": "x"}}, "expected a status from 400 to 599"),
        ({"4xx": {"body": "x"}}, "expected a status from 400 to 599"),
        ({"503": {}}, '"body" is missing'),
        ({"503": {"body": 5}}, "expected the text of the page"),
        ({"503": {"body": "é" * BODY_BYTES_MAX}}, "may have 64KiB"),
        ({"503": {"body": "x", "content_type": "html"}}, "expected a media type"),
        ({"503": {"body": "x", "content_type": "text/html\r\nSet-Cookie: a"}}, "a media type"),
        ({"503": {"body": "x", "content_type": "text/é"}}, "expected a media type"),
        ({"503": {"body": "x", "content_type": None}}, "expected a media type"),
    ],
)
def test_what_is_refused(pages: object, sentence: str) -> None:
    assert sentence in refusal("settings", {"error_pages": pages})
