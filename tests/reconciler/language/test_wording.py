from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from reconciler.language.wording import wording
from schemas.kinds.registry import MODELS


def findings(kind: str, value: Any) -> list[tuple[str, str | None]]:
    with pytest.raises(ValidationError) as caught:
        MODELS[kind].model_validate(value)
    return [wording(kind, error) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("kind", "value", "sentence", "hint"),
    [
        ("cluster", {"retries": "5"}, 'expected a whole number, not "5"', "without quotes: 5"),
        ("cluster", {"retries": 1.5}, "expected a whole number, not 1.5", None),
        ("cluster", {"retries": 11}, "11 is too large: it must be at most 10", None),
        ("cluster", {"retries": -1}, "-1 is too small: it must be at least 0", None),
        ("cluster", {"timeouts": []}, 'expected a map of "key: value", not a list', None),
        ("settings", {"generation_header": "True"}, "expected true or false", "quotes: true"),
        ("settings", {"error_pages": []}, 'expected a map of "key: value"', None),
        ("backend", {}, '"address" is missing', 'for example: address: "127.0.0.1:9001"'),
        (
            "frontend",
            {"cluster": "a", "listeners": "b"},
            'expected a list like "[a, b]", not "b"',
            "write a list: [b]",
        ),
        (
            "frontend",
            {"cluster": "a", "listeners": "*"},
            'expected a list like "[a, b]", not "*"',
            'write a list: ["*"]',
        ),
        ("frontend", {"cluster": "a", "listeners": []}, "the list is empty", None),
    ],
)
def test_sentences(kind: str, value: object, sentence: str, hint: str | None) -> None:
    ((found, mended),) = findings(kind, value)
    assert sentence in found
    assert hint == mended if hint is None else hint in str(mended)


def test_what_is_missing_gets_an_example() -> None:
    found = dict(findings("frontend", {}))
    assert found['"listeners" is missing'] == "for example: listeners: [public-http]"


def test_an_unforeseen_type_gets_a_plain_sentence() -> None:
    error: ErrorDetails = {"type": "novel", "loc": ("retries",), "msg": "Input odd", "input": 5}
    assert wording("cluster", error) == ("5 is not valid here", None)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@given(st.data(), st.sampled_from(sorted(MODELS)))
def test_no_words_of_pydantic_get_out(data: st.DataObject, kind: str) -> None:
    fields = sorted(MODELS[kind].model_fields)
    value = data.draw(st.dictionaries(st.sampled_from(fields), JUNK))
    try:
        MODELS[kind].model_validate(value)
    except ValidationError as caught:
        for error in caught.errors():
            message, hint = wording(kind, error)
            if error["type"] != "extra_forbidden":
                assert not message.startswith("Input")
                assert "is not valid here" not in message, error["type"]
            for word in ("Input should", "Field required", "valid dictionary", "instance"):
                assert word not in f"{message}{hint}".replace(repr(error["input"]), "")
