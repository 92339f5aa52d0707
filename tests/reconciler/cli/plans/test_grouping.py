from typing import Any

import pytest

from reconciler.cli.output import Painter
from reconciler.cli.plans import markdown, render
from reconciler.cli.plans.grouping import filtered, groups, sums, totals

RUNNING: dict[str, Any] = {"commit": "a" * 40, "generation": 1, "workers": [1]}


def change(
    action: str, kind: str, name: str, file: str = "a/x.yaml", **more: Any
) -> dict[str, Any]:
    fields = more.pop("fields", {})
    source = {"file": file, "line": 1}
    return {
        "action": action,
        "kind": kind,
        "name": name,
        "fields": fields,
        "source": source,
        "effect": "",
        **more,
    }


def moved(number: int, port: int) -> dict[str, Any]:
    sides = {"from": f"10.0.0.1:{port}", "to": f"10.0.0.2:{port}"}
    return change(
        "update", "backend", f"c{number}/b", f"t{number % 2}/c.yaml", fields={"address": sides}
    )


MOVED = [moved(number, 9000 + number) for number in range(500)]


def lines(changes: list[dict[str, Any]], *, full: bool = False) -> list[str]:
    planned = {"changes": changes, "warnings": [], "refusal": None}
    return list(render.plan(planned, RUNNING, "x", Painter(False), full=full))


def test_alike_changes_are_one_and_full_shows_each() -> None:
    text = lines(MOVED)
    assert len(text) < 20
    assert any("~ 500 backends" in each and "in 2 files" in each for each in text)
    assert "      address  10.0.0.1 → 10.0.0.2" in text
    assert "      c0/b, c1/b, c2/b, c3/b, c4/b and 495 more" in text
    full = lines(MOVED, full=True)
    assert sum("~ backend c" in each for each in full) == 500
    assert text[-1] == full[-1] == "Plan: 0 to add, 500 to change, 0 to remove."


def test_what_differs_is_not_taken_together() -> None:
    other = moved(1000, 1)
    other["fields"] = {**other["fields"], "weight": {"from": 1, "to": 2}}
    hidden = {**moved(1001, 2), "leaves_no_backend": True}
    assert [len(each.changes) for each in groups([*MOVED, other, hidden])] == [500, 1, 1]
    assert [len(each.changes) for each in groups(MOVED[:2])] == [1, 1]


def test_sums_are_by_directory_and_kind() -> None:
    assert sums([*MOVED, change("add", "frontend", "f", "f.yaml")]) == [
        (".", "frontend", {"add": 1, "update": 0, "remove": 0, "rename": 0}),
        ("t0", "backend", {"add": 0, "update": 250, "remove": 0, "rename": 0}),
        ("t1", "backend", {"add": 0, "update": 250, "remove": 0, "rename": 0}),
    ]
    assert any("t0" in each and "250 to change" in each for each in lines(MOVED))


def test_a_rename_is_one() -> None:
    pair = [
        change("add", "frontend", "new", renamed="old"),
        change("remove", "frontend", "old", renamed="new"),
    ]
    assert totals(pair) == {"add": 0, "update": 0, "remove": 0, "rename": 1}
    text = "\n".join(lines(pair))
    assert "~ frontend old → new" in text
    drained = [
        change("add", "backend", "c/new", renamed="c/old", ends_drain=True),
        change("remove", "backend", "c/old", renamed="c/new"),
    ]
    assert '! takes requests again: it was drained as "c/old"' in "\n".join(lines(drained))
    assert text.endswith("Plan: 0 to add, 0 to change, 0 to remove, 1 to rename.")


def test_a_filter_is_a_kind_or_an_entity_with_what_nests_in_it() -> None:
    changes = [*MOVED[:3], change("update", "cluster", "c1"), change("add", "frontend", "c1")]
    assert filtered(changes, "backend") == MOVED[:3]
    assert filtered(changes, "cluster/c1") == [MOVED[1], changes[3]]
    assert filtered(changes, "frontend/c1") == [changes[4]]
    assert filtered(changes, "frontend/c2") == []


def test_what_it_means_for_others_is_said() -> None:
    removed = change("remove", "frontend", "api", heirs=["all", None])
    text = "\n".join(lines([removed, change("remove", "backend", "c/b", leaves_no_backend=True)]))
    assert '! its requests go to frontend "all"; others get 404' in text
    assert '! leaves cluster "c" without a backend that takes requests: 503' in text
    led = change("update", "frontend", "web", leads_to_no_backend=["d", "e"])
    told = "! brings requests to 2 clusters (d, e), without a backend that takes any: 503"
    assert told in "\n".join(lines([led]))


@pytest.mark.parametrize(
    ("action", "told", "said"),
    [
        ("remove", {"untried": ["heirs"]}, "→ not tried: who takes its requests"),
        (
            "remove",
            {"heirs": ["all"], "untried": ["heirs"]},
            '→ its requests go to frontend "all"; not tried: who takes others',
        ),
        (
            "update",
            {"heirs": [None], "untried": ["heirs"]},
            "! some of its requests get 404; not tried: who takes others",
        ),
        ("add", {"untried": ["takes_from"]}, "→ not tried: whose requests it takes"),
        (
            "add",
            {"takes_from": ["all"], "untried": ["takes_from"]},
            '→ takes requests of frontend "all"; not tried: of whom else',
        ),
    ],
)
def test_what_could_not_be_tried_is_said(action: str, told: dict[str, Any], said: str) -> None:
    assert said in "\n".join(lines([change(action, "frontend", "api", **told)]))


def test_what_a_group_means_is_said_of_all_of_it() -> None:
    removed = [
        change("remove", "backend", f"d-{number}/b", leaves_no_backend=True, effect="is drained")
        for number in range(6)
    ]
    clusters = [
        change("update", "cluster", f"d-{number}", frontends=[f"f{number}"]) for number in range(3)
    ]
    planned = {"changes": [*removed, *clusters], "warnings": [], "refusal": None}
    told = "leaves 6 clusters (d-0, d-1, d-2, d-3, d-4 and 1 more) without a backend"
    for shown in (
        "\n".join(lines(planned["changes"])),
        "\n".join(markdown.plan(planned, RUNNING, "x")),
    ):
        assert told in shown.replace("\\", "")
        assert "serve 3 frontends: f0, f1, f2" in shown
        assert "is drained" in shown


def test_all_frontends_are_counted_and_the_first_are_named() -> None:
    names = [f"f{number:03}" for number in range(100)]
    one = change("update", "cluster", "c", frontends=names, more_frontends=50)
    first = "f000, f001, f002, f003, f004"
    assert list(render.meaning([one])) == [f"serves 150 frontends: {first} and 145 more"]
    alike = [one, change("update", "cluster", "d", frontends=["x"])]
    shown = "\n".join(render.meaning(alike))
    assert shown == f"serve 151 frontends or more: {first} and 146 more"
    gone = change("remove", "policy", "p", frontends=["f"])
    assert list(render.meaning([gone])) == ["counted for 1 frontend: f"]


def test_what_goes_is_grouped_by_what_that_means_for_others() -> None:
    gone = [
        change(
            "remove",
            "frontend",
            f"f{number}",
            fields={"hostname": {"from": f"{number}.test", "to": None}},
            heirs=["all"] if number else [None],
        )
        for number in range(250)
    ]
    assert [len(each.changes) for each in groups(gone)] == [1, 249]
    planned = {"changes": gone, "warnings": [], "refusal": None}
    told = "is told of the first 200 frontends only"
    assert told in "\n".join(lines(gone))
    assert told in "\n".join(markdown.plan(planned, RUNNING, "x"))
    assert told not in "\n".join(lines(gone[:200]))


def test_markdown_is_a_table_that_nothing_breaks_out_of() -> None:
    hostile = change(
        "update", "frontend", "f", "a|b.yaml", fields={"path.regex": {"from": "a|`b", "to": "<b>"}}
    )
    planned = {
        "changes": [*MOVED, hostile],
        "warnings": [{"file": "a.yaml", "line": 3, "message": "careful | now"}],
        "refusal": {"stage": "guard", "reason": "no"},
    }
    text = list(markdown.plan(planned, RUNNING, "the working tree"))
    assert text[0] == "### Kakehi plan: 0 to add, 501 to change, 0 to remove"
    rows = [each for each in text if each.startswith("| ")]
    bars = {each.replace("\\|", "").count("|") for each in rows}
    assert len(rows) == 3
    assert bars == {6}
    assert "**The daemon would refuse this now:** no" in text
    assert "> **Warning:** a.yaml:3: careful \\| now" in text


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("a", '`"a"`'),
        ("a`b", '``"a`b"``'),
        ("a``b", '```"a``b"```'),
        ("`a``", '```"`a``"```'),
    ],
)
def test_no_value_ends_the_code_that_it_stands_in(given: str, code: str) -> None:
    """Markup, links and mentions of a value are no part of the comment (CommonMark §6.1)."""
    change = {"action": "add", "fields": {"path": {"from": None, "to": given}}}
    assert markdown._fields(change, 1) == f"path: {code}"
