"""Writes a plan as Markdown, for a comment on a change that is looked over. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.cli.output import value
from reconciler.cli.plans.differences import both
from reconciler.cli.plans.grouping import Group, groups, move
from reconciler.cli.plans.render import (
    SIGNS,
    effect,
    meaning,
    named,
    others,
    start,
    summary,
    unchanged,
    untold,
)
from schemas.values.text import visible

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>|#"})


def plan(
    planned: dict[str, Any], running: dict[str, Any], subject: str, *, full: bool = False
) -> Iterator[str]:
    """Return the lines of a plan."""
    changes = planned["changes"]
    of = f" of {_plain(running['only'])}" if "only" in running else ""
    yield f"### Kakehi plan{of}: {summary(changes)}"
    yield ""
    yield f"From {_plain(start(running))} to {_plain(subject)}."
    yield ""
    if planned.get("refusal"):
        yield f"**The daemon would refuse this now:** {_plain(planned['refusal']['reason'])}"
        yield ""
    if not changes:
        yield unchanged(running)
    else:
        yield "| | Entity | Fields | Effect | Source |"
        yield "|---|---|---|---|---|"
        for group in groups(changes, full=full):
            yield f"| {' | '.join(_cells(group))} |"
        if left := others(running):
            yield ""
            yield left.strip()
    if told := untold(changes):
        yield ""
        yield told
    for warning in planned["warnings"]:
        where = f"{warning['file']}:{warning['line']}: " if warning["line"] else ""
        yield ""
        yield f"> **Warning:** {_plain(where + warning['message'])}"


def invalid(diagnostics: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Return the lines that stand in the place of a plan of what is no configuration."""
    yield "### Kakehi plan: the configuration is invalid"
    yield ""
    for each in diagnostics:
        where = f" {_code(_place(each))}" if each["file"] else ""
        hint = f" ({_plain(each['hint'])})" if each["hint"] else ""
        yield f"- **{each['severity'].title()}**{where}: {_plain(each['message'])}{hint}"


def failed(message: str, hint: str | None) -> Iterator[str]:
    """Return the lines that stand there when nothing could be planned at all."""
    yield "### Kakehi plan: there is none"
    yield ""
    yield _plain(message)
    if hint:
        yield ""
        yield _plain(hint)


def _place(diagnostic: dict[str, Any]) -> str:
    parts = (diagnostic["file"], diagnostic["line"], diagnostic["column"])
    return visible(":".join(str(part) for part in parts if part))


def _cells(group: Group) -> list[str]:
    first, number = group.first, len(group.changes)
    names = [each["name"] for each in group.changes]
    if group.renamed:
        entity = f"{first['kind']} {first['renamed']} → {first['name']}"
    elif number > 1:
        entity = f"{number} × {first['kind']}: {named(names)}"
    else:
        entity = first["kind"] if first["kind"] == "settings" else f"{first['kind']} {names[0]}"
    source, files = first["source"], {each["source"]["file"] for each in group.changes}
    place = f"{source['file']}:{source['line']}" if source["file"] else "defaults"
    if len(files) > 1:
        place = f"in {len(files)} files"
    texts = (effect(group.changes), *meaning(group.changes))
    told = "; ".join(each for each in texts if each)
    sign = "~" if group.renamed else SIGNS[first["action"]]
    fields = "" if group.renamed or first["action"] == "remove" else _fields(first, number)
    return [f"`{sign}`", _plain(entity), fields, _plain(told), _plain(place)]


def _fields(change: dict[str, Any], number: int) -> str:
    moved = move(change) if number > 1 else None
    if moved is not None:
        return f"address: {_code(moved[0])} → {_code(moved[1])}"
    return "<br>".join(
        f"{_plain(path)}: {_code(value(sides['to']))}"
        if change["action"] == "add"
        else f"{_plain(path)}: " + " → ".join(map(_code, both(sides)))
        for path, sides in change["fields"].items()
    )


def _plain(text: str) -> str:
    return visible(text).translate(_SPECIAL)


def _code(text: str) -> str:
    """Return text as code in a table, where a bar ends a cell and as many back-ticks the code."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence}{text.replace('|', chr(92) + '|')}{fence}"
