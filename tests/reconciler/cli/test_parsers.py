"""The parser of command lines: every form of option, and errors that say what to write instead."""

from typing import Annotated

import pytest

from reconciler.cli import parsers
from reconciler.cli.exits import USAGE, UsageError
from reconciler.cli.parameters import Argument, Option, milliseconds


def sample(
    name: Annotated[str, Argument("NAME", help="A name.")],
    other: Annotated[str | None, Argument("[OTHER]", help="Another.")] = None,
    loud: Annotated[bool, Option("--loud", "-l", help="A flag.")] = False,
    count: Annotated[int, Option("--count", "-n", metavar="N", help="A number.")] = 3,
    limit: Annotated[
        int | None, Option("--limit", metavar="N", env="SAMPLE_LIMIT", help="")
    ] = None,
    header: Annotated[tuple[str, ...], Option("--header", "-H", help="Repeated.")] = (),
) -> int:
    """Stand in for a command."""
    return 0


def wordy(
    long: Annotated[
        int,
        Option(
            "--long",
            "-l",
            metavar="N",
            env="WORDY",
            help="Words that go on until the columns of a small terminal end with "
            "--detailed-exitcode.",
        ),
    ] = 1,
) -> int:
    """Stand in for a command.

    Examples:
      kakehi wordy   --spaces   are kept
    """
    return long


def parsed(*line: str) -> dict[str, object]:
    return parsers.parse(sample, "sample", list(line))


@pytest.mark.parametrize(
    "line",
    [
        ("x", "--count", "7"),
        ("x", "--count=7"),
        ("x", "-n", "7"),
        ("x", "-n7"),
        ("--count", "7", "x"),
        ("-n7", "--", "x"),
        ("--count", "7", "x", "-n", "7"),
    ],
)
def test_every_way_to_write_an_option(line: tuple[str, ...]) -> None:
    assert parsed(*line) == {
        "name": "x",
        "other": None,
        "loud": False,
        "count": 7,
        "limit": None,
        "header": (),
    }


def test_two_values_for_one_option_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="--count is given twice: 1 and 7"):
        parsed("--count", "1", "x", "-n", "7")


def test_values_may_look_like_options() -> None:
    assert parsed("x", "--header=--loud")["header"] == ("--loud",)
    assert parsed("x", "-H", "-a: 1")["header"] == ("-a: 1",)
    assert parsed("x", "-n", "-1")["count"] == -1
    assert parsed("--", "-l")["name"] == "-l"
    assert parsed("x", "--", "--loud") == {**parsed("x"), "other": "--loud"}
    assert parsed("-")["name"] == "-"


def test_a_repeated_option_keeps_all() -> None:
    assert parsed("x", "-H", "a: 1", "-Hb: 2")["header"] == ("a: 1", "b: 2")


def test_the_environment_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_LIMIT", "5")
    assert parsed("x")["limit"] == 5
    assert parsed("x", "--limit", "6")["limit"] == 6
    monkeypatch.setenv("SAMPLE_LIMIT", "many")
    with pytest.raises(UsageError, match=r"^\$SAMPLE_LIMIT needs a whole number, not 'many'$"):
        parsed("x")
    monkeypatch.setenv("SAMPLE_LIMIT", "")
    assert parsed("x")["limit"] is None


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ((), "NAME is missing", None),
        (("x", "y", "z"), "unexpected argument: z", None),
        (("x", "--laud"), "there is no option --laud", "did you mean --loud?"),
        (("x", "--loud=1"), "--loud takes no value", None),
        (("x", "--count"), "--count needs a value", None),
        (("x", "--count", "many"), "--count needs a whole number, not 'many'", None),
        (("x", "--header", "--loud"), "--header needs a value", None),
        (("x", "--lou"), "there is no option --lou", "did you mean --loud?"),
        (("x", "-z"), "there is no option -z", None),
    ],
)
def test_errors_say_what_is_wrong(line: tuple[str, ...], message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        parsed(*line)
    assert raised.value.message == message
    assert raised.value.hint == hint
    assert raised.value.code == USAGE


@pytest.mark.parametrize("line", [["--help"], ["x", "-h"], ["--lowd", "--help"], ["x", "y", "-h"]])
def test_help_comes_before_what_is_wrong(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(*line)
    assert capsys.readouterr().out.startswith("Usage: kakehi sample NAME [OTHER] [OPTIONS]\n")


@pytest.mark.parametrize("line", [["--", "--help"], ["--header=--help", "x"]])
def test_a_value_is_no_question_for_help(line: list[str]) -> None:
    assert "--help" in str(parsed(*line))


def test_help_breaks_between_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsers.parse(wordy, "wordy", ["--help"])
    assert capsys.readouterr().out == (
        "Usage: kakehi wordy [OPTIONS]\n\nStand in for a command.\n\n"
        "Examples:\n  kakehi wordy   --spaces   are kept\n\n"
        "Options:\n"
        "  -l, --long N  Words that go on until the columns of a small terminal end with\n"
        "                --detailed-exitcode. ($WORDY)\n"
        "  -h, --help    Show this help.\n"
    )


@pytest.mark.parametrize(
    ("text", "wanted"), [("250ms", 250), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)]
)
def test_durations_are_those_of_the_language(text: str, wanted: int) -> None:
    from schemas.values.units import parse_duration

    assert milliseconds(text, "--timeout") == wanted == parse_duration(text)


@pytest.mark.parametrize("text", ["30", "", "s", "1.5s", "-1s", "٣s", "1d", "1 s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout needs a duration"):
        milliseconds(text, "--timeout")
