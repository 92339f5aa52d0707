"""Fits text into the columns of a terminal: lines break between words, excerpts of files are cut.

Pure. Called by `output` for what goes to a terminal; what goes elsewhere stays as it is, so that
one line is one line for the programs that read it.
"""

import re

_ESCAPE = re.compile(r"\033\[[0-9;]*m")
_WORD = re.compile(r"\s+|\S+")
_EXCERPT = re.compile(r" *[0-9]+ \| ")
_CARETS = re.compile(r" *\| ( *)\^")
_COLUMNS_MIN = 40
_BEFORE = 20
"""So much of a line of a file is left before the place that is meant."""


def fitted(text: str, columns: int) -> str:
    """Return text whose lines fit, as far as its words allow it."""
    if columns < _COLUMNS_MIN:
        return text
    lines = text.split("\n")
    found: list[str] = []
    at = 0
    while at < len(lines):
        below = lines[at + 1] if at + 1 < len(lines) else ""
        if _EXCERPT.match(lines[at]) and _CARETS.match(below):
            found += _excerpt(lines[at], below, columns)
            at += 2
            continue
        found += _wrapped(lines[at], columns)
        at += 1
    return "\n".join(found)


def width(text: str) -> int:
    """Return how many columns a text takes, colours aside."""
    return len(_ESCAPE.sub("", text))


def _wrapped(line: str, columns: int) -> list[str]:
    if width(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    found, current = [], ""
    for word in _WORD.findall(line):
        if current.strip() and width(current) + width(word) > columns and not word.isspace():
            found.append(current.rstrip())
            current = indent
        current += word
    return [*found, current.rstrip()]


def _excerpt(source: str, carets: str, columns: int) -> list[str]:
    """Cut a line of a file and the marks below it alike, around what is marked."""
    if width(source) <= columns:
        return [source, carets[:columns]]
    gutter = source.index("| ") + 2
    marked = carets.index("^")
    start = max(gutter, marked - _BEFORE) if marked >= columns - 1 else gutter
    room = columns - gutter
    cut = source[start : start + room]
    if len(source) > start + room:
        cut = cut[: room - 1] + "…"
    return [source[:gutter] + cut, (carets[:gutter] + carets[start:])[:columns]]
