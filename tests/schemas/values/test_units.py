import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from schemas.values.units import (
    DURATION_MS_MAX,
    SIZE_BYTES_MAX,
    Measured,
    format_duration,
    format_share,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"), [("512B", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "wrong", ["", "30", "s", "1.5s", "-1s", " 1s", "1s ", "1S", "٣s", 30, None]
)
def test_a_duration_needs_number_and_unit(wrong: object) -> None:
    with pytest.raises(PydanticCustomError, match='expected a duration like "250ms"'):
        parse_duration(wrong)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("64KB", '"64KiB"'), ("10 mb", '"10MiB"'), ("5g", '"5GiB"'), (64, "64B"), ("64b", '"64B"')],
)
def test_a_size_of_another_language_is_translated(wrong: object, hint: str) -> None:
    with pytest.raises(PydanticCustomError, match='expected a size like "512B"') as caught:
        parse_size(wrong)
    assert caught.value.context is not None
    assert hint in caught.value.context["hint"]


@pytest.mark.parametrize(
    ("wrong", "hint"), [(10, "write the unit: 10%"), ("0.5%", "whole numbers"), ("٣%", "whole")]
)
def test_a_share_is_a_percentage(wrong: object, hint: str) -> None:
    assert format_share(parse_share("10%")) == "10%"
    with pytest.raises(PydanticCustomError, match='expected a share like "10%"') as caught:
        parse_share(wrong)
    assert caught.value.context is not None
    assert hint in caught.value.context["hint"]


def test_too_much_is_refused() -> None:
    with pytest.raises(PydanticCustomError, match="at most 168h"):
        parse_duration("169h")
    with pytest.raises(PydanticCustomError, match="at most 1024TiB"):
        parse_size("1025TiB")


def test_a_field_has_its_own_bounds() -> None:
    head = Measured("size", "1KiB", "64KiB")
    assert head.parse("1KiB") == 1024
    assert head.parse("64KiB") == 65_536
    for wrong in ("1023B", "65KiB"):
        with pytest.raises(PydanticCustomError, match="from 1KiB to 64KiB"):
            head.parse(wrong)


@given(st.integers(0, DURATION_MS_MAX))
def test_a_duration_prints_as_it_is_parsed(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@given(st.integers(0, SIZE_BYTES_MAX))
def test_a_size_prints_as_it_is_parsed(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "0s"), (250, "250ms"), (90_000, "90s"), (120_000, "2m")]
)
def test_the_largest_unit_that_fits_is_printed(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text
