import pytest

from schemas.kinds.settings import Settings
from tests.schemas.refusals import refusal


def test_the_full_value_has_every_default() -> None:
    assert Settings().in_full() == {
        "access_log": "stdout",
        "admin": None,
        "accept_by_core": False,
        "drain_idle_timeout": 1000,
        "drain_timeout": 30000,
        "error_pages": {},
        "generation_header": False,
        "max_buffered_bytes": 1073741824,
        "max_compression_bytes": 67108864,
        "max_connections": 10000,
        "max_counted_entities": 1000000,
        "max_expression_bytes": 268435456,
        "max_requests": 10000,
        "metrics_entities": 1500,
        "via": None,
        "workers": "auto",
    }


@pytest.mark.parametrize(
    "value",
    [
        {"workers": 1},
        {"workers": 1024},
        {"workers": "auto"},
        {"access_log": "off"},
        {"access_log": "/var/log/kakehi/access.log"},
        {"admin": None},
        {"admin": "127.0.0.1:9901"},
        {"generation_header": True},
        {"via": "edge-1"},
    ],
)
def test_what_can_be_set(value: dict[str, object]) -> None:
    assert value.items() <= Settings.model_validate(value).in_full().items()


def test_a_drain_may_be_at_once() -> None:
    assert Settings.model_validate({"drain_timeout": "0s"}).drain_timeout == 0


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("via", "edge 1", "expected a name like"),
        ("via", "", "expected a name like"),
        ("via", "a" * 65, "of 64 characters at most"),
        ("via", 7, "expected a name like"),
        ("workers", 0, 'expected "auto" or a number'),
        ("workers", 1025, 'expected "auto" or a number'),
        ("workers", True, 'expected "auto" or a number'),
        ("workers", "many", 'expected "auto" or a number'),
        ("access_log", "access.log", "an absolute path"),
        ("access_log", "/var/log/", "an absolute path"),
        ("access_log", False, "an absolute path"),
        ("admin", 9901, "expected an address"),
        ("drain_timeout", "25h", "from 0s to 24h"),
        ("generation_header", "yes", "expected true or false"),
        ("max_buffered_bytes", "64KiB", "from 1MiB to 1TiB"),
        ("max_counted_entities", 0, "too small"),
        ("max_counted_entities", 4_000_001, "too large"),
        ("max_requests", 0, "too small"),
        ("metrics_entities", -1, "too small"),
    ],
)
def test_what_is_refused(field: str, value: object, sentence: str) -> None:
    assert sentence in refusal("settings", {field: value})
