"""What the engine makes of expressions: how much each takes when it is compiled, or why it cannot.

The language lets through what only a compiler can tell, such as an expression that is too large. So
the engine itself is asked (`routing`) when an entity is checked, and what it refuses is told like
all else that is wrong with a value. To compile a large one takes a hundredth of a second: on the
loop no more of them are compiled than it may be silent for. Called by the validator.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from reconciler.language.document import Node
from reconciler.language.raw import RawEntity
from reconciler.stalling import spend
from schemas.base import shown

_REMEMBERED_MAX = 1000
_TOO_LARGE = "compiled it takes"
SMALLER = (
    "a count makes so many copies of what stands before it, and \\w, \\d and \\pL are all of "
    "Unicode: count less, or write [0-9A-Za-z_] and [0-9]"
)
_SYNTAX = 'the syntax is that of Rust\'s "regex": https://docs.rs/regex/latest/regex/#syntax'
_FIELDS = ("headers", "query", "cookies")


class Compiled(NamedTuple):
    """How many bytes an expression takes in each worker, or why the engine does not take it."""

    weight: int
    fault: str | None = None


def compiled(pattern: str, *, ignore_case: bool = False) -> Compiled:
    """Ask the engine. In a hurry, raises `HurriedError` behind what has taken too long."""
    began = time.monotonic()
    found = _compiled(pattern, ignore_case)
    spend(time.monotonic() - began)
    return found


@lru_cache(maxsize=_REMEMBERED_MAX)
def _compiled(pattern: str, ignore_case: bool) -> Compiled:  # a key of the cache
    from routing import weigh_expression  # noqa: PLC0415  # loads the engine, only for who asks

    try:
        return Compiled(weigh_expression(pattern, ignore_case=ignore_case))
    except ValueError as error:
        return Compiled(0, str(error))


def report_uncompilable(raw: RawEntity) -> bool:
    """Report the expressions of a frontend that the engine does not take; tell of any."""
    found = False
    for where, node, ignore_case in _written(raw):
        reason = compiled(node.value, ignore_case=ignore_case).fault
        if reason is not None:
            found = True
            is_large = reason.startswith(_TOO_LARGE)
            what = "is too large" if is_large else "is not a regular expression of the engine"
            message = f"{raw.key}: {where}: {shown(node.value)} {what}: {reason}"
            raw.document.report(node, message, SMALLER if is_large else _SYNTAX)
    return found


def _written(raw: RawEntity) -> Iterator[tuple[str, Node, bool]]:
    """Yield the expressions of a valid entity: path in words, place, whether case is ignored."""
    if raw.key.kind != "frontend":
        return
    items = raw.body.items
    if (path := items.get("path")) is not None and (node := path.items.get("regex")) is not None:
        ignores = path.items.get("ignore_case")
        yield "path.regex", node, bool(ignores and ignores.value)
    for field in _FIELDS:
        if (asked := items.get(field)) is not None:
            for name, match in asked.items.items():
                if (node := match.items.get("regex")) is not None:
                    yield f"{field}.{name}.regex", node, False
