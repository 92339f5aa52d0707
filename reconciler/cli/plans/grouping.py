"""Takes alike changes of a plan together, and renames, and sums them up. Pure.

Five hundred backends that move from one machine to another are one line to read. Called by
`render` and `markdown`.
"""

import json
from collections import Counter
from pathlib import PurePosixPath
from typing import Any, NamedTuple

ALIKE_MIN = 3
"""Fewer are shown one by one."""
SUMMED_MIN = 20
"""From so many changes on they are summed by kind and directory."""

Change = dict[str, Any]


class Group(NamedTuple):
    """Changes that are shown as one; a single one is a group of itself."""

    changes: list[Change]
    renamed: bool = False

    @property
    def first(self) -> Change:
        """The one that stands for all."""
        return self.changes[0]


def groups(changes: list[Change], *, full: bool = False) -> list[Group]:
    """Return the changes in their order, what is alike in the place of the first."""
    found: dict[str, list[Change]] = {}
    order: list[tuple[str, bool]] = []
    there = {(each["kind"], each["name"]) for each in changes}
    for number, change in enumerate(changes):
        if "renamed" in change and (change["kind"], change["renamed"]) in there:
            if change["action"] == "add":
                order.append((f"renamed {number}", True))
                found[order[-1][0]] = [change]
            continue
        key = str(number) if full else _likeness(change)
        if key not in found:
            order.append((key, False))
        found.setdefault(key, []).append(change)
    gathered: list[Group] = []
    for key, renamed in order:
        alike = found[key]
        if len(alike) < ALIKE_MIN:
            gathered += [Group([each], renamed) for each in alike]
        else:
            gathered.append(Group(alike))
    return gathered


def filtered(changes: list[Change], wanted: str) -> list[Change]:
    """Return the changes of a kind, or of one entity; those of a cluster's backends with it."""
    kind, slash, name = wanted.partition("/")
    return [
        each
        for each in changes
        if (each["kind"] == kind and (not slash or each["name"] == name))
        or (
            kind == "cluster"
            and slash
            and each["kind"] == "backend"
            and each["name"].startswith(f"{name}/")
        )
    ]


def totals(changes: list[Change]) -> dict[str, int]:
    """Return how many entities are added, updated, removed and renamed, each in one of these."""
    counted = Counter(
        "rename" if "renamed" in each else each["action"]
        for each in changes
        if "renamed" not in each or each["action"] == "add"
    )
    return {action: counted[action] for action in ("add", "update", "remove", "rename")}


def sums(changes: list[Change]) -> list[tuple[str, str, dict[str, int]]]:
    """Return how many changes each directory has, by kind: (directory, kind, counts)."""
    counted: dict[tuple[str, str], list[Change]] = {}
    for each in changes:
        folder = str(PurePosixPath(each["source"]["file"]).parent)
        counted.setdefault((folder, each["kind"]), []).append(each)
    return [(folder, kind, totals(found)) for (folder, kind), found in sorted(counted.items())]


def move(change: Change) -> tuple[str, str] | None:
    """Return the IP addresses between which a backend moves, if it does nothing else."""
    sides = change["fields"].get("address")
    if change["action"] != "update" or len(change["fields"]) != 1 or sides is None:
        return None
    (old, port), (new, new_port) = (
        str(sides[side]).rpartition(":")[::2] for side in ("from", "to")
    )
    return (old, new) if port == new_port else None


def _likeness(change: Change) -> str:
    # What was in something that goes is not shown.
    fields: Any = None if change["action"] == "remove" else move(change) or change["fields"]
    names = (
        "leaves_no_backend",
        "then",
        "leads_to_no_backend",
        "drained",
        "heirs",
        "takes_from",
        "untried",
        "without_certificate",
        "without_keys",
        "unreached",
    )
    marks = [change.get(name) for name in names]
    return json.dumps([change["action"], change["kind"], fields, marks], sort_keys=True)
