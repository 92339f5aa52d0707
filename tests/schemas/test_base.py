import pytest
from pydantic import ValidationError

from schemas.base import FAULT, SHOWN_CHARS_MAX, fault, shown
from schemas.kinds.backend import Backend
from schemas.kinds.frontend import Frontend


def test_models_are_frozen_strict_and_closed() -> None:
    backend = Backend(address="127.0.0.1:1")
    with pytest.raises(ValidationError, match="frozen"):
        backend.weight = 5  # type: ignore[misc]
    for value in ({"address": "127.0.0.1:1", "weight": "5"}, {"address": "127.0.0.1:1", "x": 1}):
        with pytest.raises(ValidationError):
            Backend.model_validate(value)


def test_a_canonical_value_is_plain_and_has_no_default() -> None:
    backend = Backend(address="127.0.0.1:1", weight=100)
    assert backend.value() == {"address": "127.0.0.1:1"}
    assert backend.in_full() == {"address": "127.0.0.1:1", "weight": 100, "backup": False}
    assert Backend.of_value({"address": "127.0.0.1:1", "of_old": 1}) == backend
    with pytest.raises(KeyError, match="address"):
        Backend.of_value({"weight": 1})


def test_a_default_that_is_a_model_is_the_same_for_all() -> None:
    written = {"cluster": "shop", "hostname": "a.test", "listeners": ["web"]}
    one, other = Frontend.model_validate(written), Frontend.model_validate(written)
    assert one.request_headers is other.request_headers
    assert one == other
    assert hash(one.path) == hash(other.path)
    assert one != Frontend.model_validate({**written, "hostname": "b.test"})


def test_a_fault_keeps_its_sentence_whatever_is_in_it() -> None:
    error = fault("{a} is {no} {0}", "write {b}")
    assert error.type == FAULT
    assert error.message() == "{a} is {no} {0}"
    assert error.context == {"message": "{a} is {no} {0}", "hint": "write {b}"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        (5, "5"),
        (True, "true"),
        (False, "false"),
        (None, "nothing"),
        ({"a": 1}, "a map"),
        ([1], "a list"),
    ],
)
def test_a_value_is_shown_as_it_was_written(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_long_value_is_cut() -> None:
    text = shown("x" * 1000)
    assert len(text) == SHOWN_CHARS_MAX
    assert text.endswith("…")
