"""The values that a shell may complete: names of what runs, kinds, subjects.

Called by `completing` when somebody presses Tab; so whatever goes wrong is no value, and no word.
"""

import os
from collections.abc import Callable

import typer

from reconciler.cli.asking import ask
from reconciler.cli.commands.completion import SHELLS
from reconciler.cli.exits import CommandError

ANSWER_WITHIN_S = 1.0
"""Longer nobody waits for a list after a key."""


def _shells(incomplete: str) -> list[str]:
    return _beginning(incomplete, SHELLS)


def _subjects(incomplete: str) -> list[str]:
    from reconciler.cli.reports import SUBJECTS
    from schemas.entity import KINDS

    return _beginning(incomplete, (*KINDS, *SUBJECTS))


def _entities(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return kinds, and once there is only one left its entities as well."""
    from schemas.entity import KINDS

    kind, slash, _ = incomplete.partition("/")
    kinds = [kind] if slash and kind in KINDS else _beginning(incomplete, KINDS)
    if len(kinds) != 1:
        return kinds
    names = [f"{kinds[0]}/{name}" for name in _names(ctx, kinds[0])]
    return _beginning(incomplete, (kinds[0], *names))


def _backends(ctx: typer.Context, incomplete: str) -> list[str]:
    if ctx.info_name == "undrain":
        drains = _asked(ctx, "status").get("drains", [])
        return _beginning(incomplete, [each["backend"] for each in drains])
    return _beginning(incomplete, _names(ctx, "backend"))


def _names(ctx: typer.Context, kind: str) -> list[str]:
    found = _asked(ctx, "show", {"kind": kind, "entity": None})
    return [entity["name"] for entity in found.get("entities", [])]


def _asked(
    ctx: typer.Context, request: str, fields: dict[str, str | None] | None = None
) -> dict[str, list[dict[str, str]]]:
    """Return what the daemon answers; nothing if there is none, or if it takes long."""
    given = ctx.params.get("runtime_dir") or os.environ.get("KAKEHI_RUNTIME_DIR")
    try:
        return ask(given, request, fields, ANSWER_WITHIN_S)
    except (CommandError, OSError, ValueError, KeyError):
        return {}


def _beginning(incomplete: str, values: tuple[str, ...] | list[str]) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


VALUES: dict[str, Callable[..., list[str]]] = {
    "CLUSTER/BACKEND": _backends,
    "SHELL": _shells,
    "[KIND[/NAME]]": _entities,
    "[SUBJECT]": _subjects,
}
"""How to complete an argument, by its metavar."""
