import pytest

from schemas.kinds.backend import Backend
from tests.schemas.refusals import refusal


@pytest.mark.parametrize("weight", [0, 1, 65_535])
def test_weights(weight: int) -> None:
    backend = Backend.model_validate({"address": "[::1]:9001", "weight": weight})
    assert backend.in_full() == {"address": "[::1]:9001", "backup": False, "weight": weight}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, '"address" is missing'),
        ({"address": "localhost:1"}, "expected an address"),
        ({"address": "127.0.0.1:1", "weight": 65_536}, "too large"),
        ({"address": "127.0.0.1:1", "weight": "1"}, "expected a whole number"),
    ],
)
def test_what_is_refused(value: dict[str, object], sentence: str) -> None:
    assert sentence in refusal("backend", value)
