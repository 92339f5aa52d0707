"""Draws a plan: one block per entity with its place, its fields and its effect, and a summary.

Pure: a plan in its JSON form goes in, lines come out. What comes from the repository is escaped.
"""

from collections.abc import Iterator
from typing import Any

from reconciler.cli.differences import alone, both, by_lines
from reconciler.cli.output import Painter, count, visible

SIGNS = {"add": "+", "update": "~", "remove": "-"}
NO_CHANGES = "No changes. The live proxy runs exactly this configuration."

_TITLE_COLUMNS = 44
_LINE_ACTIONS = {"-": "remove", "+": "add", "@": "dim"}


def plan(
    planned: dict[str, Any], running: dict[str, Any], subject: str, paint: Painter
) -> Iterator[str]:
    """Return the lines of a plan."""
    commit = (running["commit"] or "nothing")[:12]
    workers = count(len(running["workers"]), "worker")
    yield paint("dim", f"from  generation {running['generation']}, {commit}, on {workers}")
    yield paint("dim", f"to    {subject}")
    yield ""
    if not planned["changes"]:
        yield NO_CHANGES
        return
    for change in planned["changes"]:
        yield from _change(change, paint)
        yield ""
    totals = dict.fromkeys(SIGNS, 0)
    for change in planned["changes"]:
        totals[change["action"]] += 1
    yield paint(
        "bold",
        f"Plan: {totals['add']} to add, {totals['update']} to change, "
        f"{totals['remove']} to remove.",
    )


def _change(change: dict[str, Any], paint: Painter) -> Iterator[str]:
    action = change["action"]
    name = "" if change["kind"] == "settings" else f" {change['name']}"
    title = f"{SIGNS[action]} {change['kind']}{visible(name)}"
    yield f"  {paint(action, f'{title:<{_TITLE_COLUMNS}}')}  {paint('dim', _where(change))}"
    if action != "remove":
        yield from _fields(change, paint)
    if change.get("effect"):
        yield f"      {paint('dim', '→ ' + visible(change['effect']))}"


def _fields(change: dict[str, Any], paint: Painter) -> Iterator[str]:
    fields = change["fields"]
    width = max((len(visible(path)) for path in fields), default=0)
    for path, sides in fields.items():
        label = f"      {visible(path):<{width}}  "
        lines = by_lines(sides["from"], sides["to"]) if change["action"] == "update" else None
        if change["action"] == "add":
            yield f"{label}{alone(sides['to'])}"
        elif lines is not None:
            yield label.rstrip()
            for line in lines:
                yield f"        {paint(_LINE_ACTIONS.get(line[:1], 'dim'), line)}"
        else:
            before, after = both(sides["from"], sides["to"])
            yield f"{label}{paint('remove', before)} → {paint('add', after)}"


def _where(change: dict[str, Any]) -> str:
    source = change["source"]
    if not source["file"]:
        return "(defaults)"
    return f"{visible(source['file'])}:{source['line']}" + (
        " (deleted)" if change["action"] == "remove" else ""
    )
