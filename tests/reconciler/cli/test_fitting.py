from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.fitting import fitted, width


def test_lines_break_between_words_and_go_on_indented() -> None:
    assert fitted("  hint: one two three four five six seven eight nine ten", 40) == (
        "  hint: one two three four five six\n    seven eight nine ten"
    )
    assert fitted("short", 40) == "short"


def test_what_is_longer_than_the_terminal_stays_whole() -> None:
    path = "/a" * 40
    assert fitted(f"look at {path} please", 40).split() == ["look", "at", path, "please"]


def test_colours_take_no_columns() -> None:
    text = f"\033[31m{'a' * 38}\033[0m b"
    assert width(text) == 40
    assert fitted(text, 40) == text


def test_an_excerpt_keeps_the_place_in_sight() -> None:
    source = "    7 | " + "a" * 60 + "HERE" + "b" * 60
    carets = "      | " + " " * 60 + "^^^^"
    line, marks = fitted(f"{source}\n{carets}", 60).split("\n")
    assert max(len(line), len(marks)) <= 60
    assert line[marks.index("^") :].startswith("HERE")


@given(st.text(alphabet="ab \n", max_size=300), st.integers(40, 100))
def test_no_word_is_lost_or_split(text: str, columns: int) -> None:
    found = fitted(text, columns)
    assert found.split() == text.split()
