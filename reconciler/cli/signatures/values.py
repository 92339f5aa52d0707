"""The values that a shell may complete: names of what runs, kinds, subjects.

Called by `completing` when somebody presses Tab; so whatever goes wrong is no value, and no word.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from reconciler.cli.asking import ask
from reconciler.cli.commands.completion import SHELLS
from reconciler.cli.exits import CommandError

ANSWER_WITHIN_S = 1.0
"""Longer nobody waits for a list after a key."""


class Line(NamedTuple):
    """The line so far."""

    command: str
    runtime_dir: str | None


def _shells(_line: Line, incomplete: str) -> list[str]:
    return _beginning(incomplete, SHELLS)


def _subjects(_line: Line, incomplete: str) -> list[str]:
    from reconciler.cli.reports import SUBJECTS
    from schemas.entity import KINDS

    return _beginning(incomplete, (*KINDS, *SUBJECTS))


def _entities(line: Line, incomplete: str) -> list[str]:
    """Return kinds, and once there is only one left its entities as well."""
    from schemas.entity import KINDS

    kind, slash, _ = incomplete.partition("/")
    kinds = [kind] if slash and kind in KINDS else _beginning(incomplete, KINDS)
    if len(kinds) != 1:
        return kinds
    names = [f"{kinds[0]}/{name}" for name in _names(line, kinds[0])]
    return _beginning(incomplete, (kinds[0], *names))


def _backends(line: Line, incomplete: str) -> list[str]:
    if line.command == "undrain":
        drains = _asked(line, "status").get("drains", [])
        return _beginning(incomplete, [each["backend"] for each in drains])
    return _beginning(incomplete, _names(line, "backend"))


def _names(line: Line, kind: str) -> list[str]:
    found = _asked(line, "show", {"kind": kind, "entity": None})
    return [entity["name"] for entity in found.get("entities", [])]


def _asked(
    line: Line, request: str, fields: dict[str, str | None] | None = None
) -> dict[str, list[dict[str, str]]]:
    """Return what the daemon answers; nothing if there is none, or if it takes long."""
    given = line.runtime_dir or os.environ.get("KAKEHI_RUNTIME_DIR")
    try:
        return ask(given, request, fields, ANSWER_WITHIN_S)
    except (CommandError, OSError, ValueError, KeyError):
        return {}


def _beginning(incomplete: str, values: tuple[str, ...] | list[str]) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


VALUES: dict[str, Callable[[Line, str], list[str]]] = {
    "CLUSTER/BACKEND": _backends,
    "SHELL": _shells,
    "[KIND[/NAME]]": _entities,
    "[SUBJECT]": _subjects,
}
"""How to complete an argument, by its metavar."""
