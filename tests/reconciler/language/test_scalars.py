import pytest

from reconciler.language.scalars import AmbiguousScalarError, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-5", -5),
        ("+5", 5),
        ("8080", 8080),
        ("1.5", 1.5),
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("30s", "30s"),
        ("22:22", "22:22"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("-", "-"),
        ("٣", "٣"),
        ("nULL", "nULL"),
        ("a: b", "a: b"),
    ],
)
def test_yaml_1_2(text: str, value: object) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "010",
        "0o17",
        "0x1F",
        "0b1",
        "1_000",
        "1e3",
        "1.",
        ".5",
        ".inf",
        "-.INF",
        ".nan",
        "2024-01-02",
        "2024-1-2 10:00:00",
        "2024-01-02T10:00:00Z",
        "=",
    ],
)
def test_what_readers_disagree_on_is_refused(text: str) -> None:
    with pytest.raises(AmbiguousScalarError, match="different readers") as caught:
        resolve(text)
    assert "quotes" in caught.value.hint


def test_merge_keys_and_huge_numbers_are_refused() -> None:
    with pytest.raises(AmbiguousScalarError, match="merge keys"):
        resolve("<<")
    with pytest.raises(AmbiguousScalarError, match="too large"):
        resolve("9" * 5000)
