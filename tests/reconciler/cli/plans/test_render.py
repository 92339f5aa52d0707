"""How a plan reads: golden text, plain and in colour, and nothing that drives the terminal."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.output import Painter, duration, table, visible
from reconciler.cli.plans import differences, markdown, render

RUNNING: dict[str, Any] = {"commit": "51ab0c4d" * 5, "generation": 412, "workers": [1, 2]}

CHANGES: list[dict[str, Any]] = [
    {
        "action": "add",
        "kind": "cluster",
        "name": "shop-v2",
        "fields": {"load_balancing": {"from": None, "to": "random"}},
        "source": {"file": "services/shop.yaml", "line": 20},
        "effect": "",
    },
    {
        "action": "update",
        "kind": "backend",
        "name": "shop/shop-1",
        "fields": {
            "address": {"from": "127.0.0.1:9001", "to": "127.0.0.1:9003"},
            "weight": {"from": 100, "to": 50},
        },
        "source": {"file": "services/shop.yaml", "line": 12},
        "effect": "drains 3 connections on each worker",
    },
    {
        "action": "update",
        "kind": "settings",
        "name": "settings",
        "fields": {"drain_timeout": {"from": "30s", "to": "1m"}},
        "source": {"file": "", "line": 0},
        "effect": "",
    },
    {
        "action": "remove",
        "kind": "frontend",
        "name": "legacy",
        "fields": {"cluster": {"from": "shop", "to": None}},
        "source": {"file": "legacy.yaml", "line": 3},
        "effect": "its requests get 404",
    },
]

GOLDEN = """\
from  generation 412, 51ab0c4d51ab, on 2 workers
to    the working tree of shop

  + cluster shop-v2                             services/shop.yaml:20
      load_balancing  "random"

  ~ backend shop/shop-1                         services/shop.yaml:12
      address  "127.0.0.1:9001" → "127.0.0.1:9003"
      weight   100 → 50
      → drains 3 connections on each worker

  ~ settings                                    (defaults)
      drain_timeout  "30s" → "1m"

  - frontend legacy                             legacy.yaml:3 (deleted)
      → its requests get 404

Plan: 1 to add, 2 to change, 1 to remove."""


def drawn(changes: list[dict[str, Any]], colour: bool = False) -> str:
    lines = render.plan({"changes": changes}, RUNNING, "the working tree of shop", Painter(colour))
    return "\n".join(lines)


def test_a_plan_reads_like_this() -> None:
    assert drawn(CHANGES) == GOLDEN


def test_colour_adds_nothing_but_colour() -> None:
    coloured = drawn(CHANGES, colour=True)
    assert coloured != GOLDEN
    assert re.sub("\033\\[[0-9;]*m", "", coloured) == GOLDEN


def test_an_empty_plan_says_so() -> None:
    assert drawn([]).endswith("\n\nNo changes. The live proxy runs exactly this configuration.")


@pytest.mark.parametrize(
    ("running", "wanted"),
    [
        ({"beginning": "commit main"}, "No changes. Both have the same configuration."),
        ({**RUNNING, "only": "frontend/web", "others": 0}, "No changes of frontend/web."),
        (
            {**RUNNING, "only": "frontend/web", "others": 1},
            "No changes of frontend/web. The plan has 1 change of others.",
        ),
    ],
)
@pytest.mark.parametrize("form", ["text", "markdown"])
def test_an_empty_plan_says_no_more_than_was_looked_at(
    running: dict[str, Any], wanted: str, form: str
) -> None:
    planned: dict[str, Any] = {"changes": [], "warnings": []}
    if form == "text":
        lines = list(render.plan(planned, running, "the working tree of shop", Painter(False)))
    else:
        lines = list(markdown.plan(planned, running, "the working tree of shop"))
    assert wanted in lines
    assert not any("live proxy" in line for line in lines)


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_what_was_asked_for_is_not_told_as_all(form: str) -> None:
    running = {**RUNNING, "only": "backend", "others": 11}
    planned: dict[str, Any] = {"changes": [CHANGES[1]], "warnings": []}
    if form == "text":
        text = "\n".join(render.plan(planned, running, "the working tree", Painter(False)))
        assert "\nPlan of backend: " in text
    else:
        text = "\n".join(markdown.plan(planned, running, "the working tree"))
        assert text.startswith("### Kakehi plan of backend: ")
    assert "The plan has 11 changes of others." in text


def test_a_group_of_several_files_names_none_of_them_alone() -> None:
    alike = [
        {**CHANGES[1], "name": f"b{n}", "source": {"file": f"{n}.yaml", "line": 1}}
        for n in range(3)
    ]
    lines = list(markdown.plan({"changes": alike, "warnings": []}, RUNNING, "the working tree"))
    assert any(line.startswith("| ") and "in 3 files" in line for line in lines), lines


def test_what_the_repository_holds_cannot_drive_the_terminal() -> None:
    hostile = {
        **CHANGES[1],
        "name": "a\033[2J",
        "fields": {"x\r": {"from": "\033]0;t\a", "to": "\u202e"}},
    }
    text = drawn([hostile])
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_long_value_is_cut() -> None:
    long = {**CHANGES[0], "fields": {"body": {"from": None, "to": "x" * 5_000}}}
    assert max(map(len, drawn([long]).splitlines())) < 120


def field_lines(before: object, after: object) -> list[str]:
    change = {**CHANGES[1], "fields": {"field": {"from": before, "to": after}}}
    return [line for line in drawn([change]).splitlines() if line.startswith("      ")]


def test_what_differs_is_never_cut() -> None:
    start, end = "/(" + "|".join(f"shop{number}" for number in range(60)), ")/end" * 30
    for one, other in (
        (start + "a" + end, start + "b" + end),
        (start, start + "x"),
        (end, "y" + end),
    ):
        line = field_lines(one, other)[0]
        before, after = line.split(" → ")
        assert before.split("  ")[-1] != after
        assert len(line) < 160
    lists = [[f"10.0.{number}.0/24" for number in range(100)] for _ in range(2)]
    lists[1][50] = "10.9.9.0/24"
    line = field_lines(*lists)[0]
    assert "9.9.0/24" in line
    names = [f"host-{number}.example" for number in range(60)]
    other = ["x", *names[1:50], *names[51:], "y"]
    assert differences.both({"from": names, "to": other}) == (
        '["host-0.example", "host-50.example", … 58 alike]',
        '["x", "y", … 58 alike]',
    )
    turned = differences.both({"from": names, "to": names[::-1]})
    assert turned[0] != turned[1]
    # Even when all of it differs.
    assert "x" * 500 in field_lines("x" * 500, "y" * 500)[0]


@given(st.text(min_size=60, max_size=200), st.text(min_size=60, max_size=200))
def test_two_values_never_look_alike(one: str, other: str) -> None:
    before, after = differences.both({"from": one, "to": other})
    assert (before == after) == (one == other)


def test_what_is_not_there_does_not_look_like_null() -> None:
    assert differences.both({"from": "a", "to": None}) == ('"a"', "null")
    assert differences.both({"from": "a", "to": None, "missing": "to"}) == ('"a"', "(none)")
    assert differences.both({"from": None, "to": None, "missing": "from"}) == ("(none)", "null")


def test_texts_of_several_lines_are_a_line_diff() -> None:
    page = [f"<p>line {number}</p>" for number in range(40)]
    edited = [*page[:20], "<p>new\033[2J</p>", *page[21:]]
    lines = [line.strip() for line in field_lines("\n".join(page), "\n".join(edited))]
    assert lines == [
        "field",
        "@@ -20,3 +20,3 @@",
        "<p>line 19</p>",
        "-<p>line 20</p>",
        "+<p>new\\x1b[2J</p>",
        "<p>line 21</p>",
        "→ drains 3 connections on each worker",
    ]


def test_durations_for_people() -> None:
    given = (0.4, 12.0, 1_500, 119_000, 180_000, 7_200_000, 900_000_000)
    assert [duration(each) for each in given] == [
        "0.4 ms",
        "12 ms",
        "2 s",
        "119 s",
        "3 min",
        "2 h",
        "10 d",
    ]


def test_a_table_is_as_wide_as_it_must_be() -> None:
    assert table(("a", "name"), [("1", "x"), ("22", "y")], Painter(False)) == [
        "a   name",
        "1   x",
        "22  y",
    ]


def test_control_characters_become_visible() -> None:
    assert visible("a\033b\nc é →") == "a\\x1bb\\nc é →"
