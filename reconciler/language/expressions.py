"""Warns of expressions for paths that match no path at all.

An expression must match the whole path, and every path begins with "/". Who knows proxies that
search in it writes `\\.php$`, which would wait for ever. Called by the validator.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.language.validator import RawEntity

_FLAGS = re.compile(r"\(\?[a-zA-Z]*\)")
_OPTIONAL = re.compile(r"[*?]|\{ *0?[,}]|\{ *0 *[,}]")
_ESCAPED = re.compile(r"\\(?:[^/A-Za-z]|[dws])")
_PLAIN = re.compile(r"[A-Za-z0-9_\-~%@ !#&=:;,<>'\"]")


def warn_of_expressions(raw: RawEntity) -> None:
    """Warn where a frontend's path is an expression that cannot begin with a slash."""
    if raw.key.kind != "frontend" or "path" not in raw.body.items:
        return
    node = raw.body.items["path"].items.get("regex")
    if node is None or not isinstance(node.value, str) or begins_with_slash(node.value):
        return
    message = f'{raw.key}: path: "{node.value}" matches no path: every path begins with "/"'
    raw.loaded.warn(node, message, _instead(node.value))


def begins_with_slash(pattern: str) -> bool:
    """Tell whether a match of the expression may begin with a slash; if in doubt, it may."""
    return any(_may(each) for each in _alternatives(pattern))


def _instead(pattern: str) -> str:
    rest = pattern.removeprefix("^")
    hint = f"an expression must match the whole path: write {'.*' + rest.removesuffix('$')}"
    return hint if not re.match(r"[A-Za-z0-9]", rest) else f"write /{rest}, or .*{rest}"


def _alternatives(pattern: str) -> list[str]:
    """Split an expression at the bars that are in no group and no class."""
    found, start, depth, at, in_class = [], 0, 0, 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
            # A "]" right behind the opening stands for itself.
            at += pattern.startswith(("]", "^]"), at + 1) and (2 if pattern[at + 1] == "^" else 1)
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and depth == 0:
            found.append(pattern[start:at])
            start = at + 1
        at += 1
    return [*found, pattern[start:]]


def _may(alternative: str) -> bool:
    """Tell whether something that begins with a slash may match, by the first thing in it."""
    rest = alternative
    while rest.startswith(("^", "\\A", "\\b")) or _FLAGS.match(rest):
        flags = _FLAGS.match(rest)
        rest = rest[flags.end() :] if flags else rest[1 if rest[0] == "^" else 2 :]
    if not rest or rest == "$":
        # Nothing, which no path is.
        return False
    width = 2 if rest[0] == "\\" else 1
    first, behind = rest[:width], rest[width:]
    is_literal = _PLAIN.fullmatch(first) is not None or _ESCAPED.fullmatch(first) is not None
    return not is_literal or bool(_OPTIONAL.match(behind))
