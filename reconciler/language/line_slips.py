"""Slips of typing that libyaml notices further down: it goes on reading where a person would stop.

Without its ":" a key is a text that the next line goes on with, and quotes that nobody has closed
end where the next ones open. So the lines above the one that was told are looked at. Called by
`yaml_faults`; never for a file that is YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemas.base import shown

_COLON_MISSING = (
    "mapping values are not allowed",
    "did not find expected key",
    "could not find expected ':'",
    "<document start>",
)
"""What libyaml says where a text stands in the place of a key."""
_BARE = re.compile(
    r"^(?P<indent>[ ]*(?:-[ ]+)*)(?P<key>[\w./*-]*[\w*])(?P<sign>[ ]*[:;=]*)"
    r"(?P<rest>[^\s#].*|[ ].*)?$"
)
_KEY = re.compile(r"""^[ ]*(?:-[ ]+)*(?:"[^"]*"|'[^']*'|[^\s"'{\[#][^#]*?):(?:\s|$)""")
_TEXT_BEGINS = re.compile(r"[|>][+-]?\d?[+-]?\s*(?:#.*)?$")
_BEFORE_QUOTES = ":,[{-?"
_COMMENT = re.compile(r"(?:^|\s)#.*$")

Said = tuple[int, int, str, str]
"""Line and column, counted from 1; what is wrong, and how it is mended."""


def slipped_above(problem: str, lines: list[str], at: int) -> Said | None:
    """Return what is wrong with a line above the one (from 0) at which a problem was found."""
    return _open_quotes(lines, at) or _without_colon(problem, lines, at)


def _without_colon(problem: str, lines: list[str], at: int) -> Said | None:
    if not any(text in problem for text in _COLON_MISSING):
        return None
    for number in _near(lines, at):
        found = _BARE.match(lines[number])
        if found is not None and number == at and "-" in found["indent"]:
            # One of a list, where none is possible.
            return None
        if found is None or _KEY.match(_uncommented(lines[number])):
            continue
        if _is_text(lines, number, len(found["indent"])):
            return None
        return _said(number + 1, found)
    return None


def _said(line: int, found: re.Match[str]) -> Said | None:
    key, sign = found["key"], found["sign"].strip()
    rest = _uncommented(found["rest"] or "").strip()
    meant = f"{key}: {_cut(rest)}".rstrip()
    after = found.end("key") + 1
    if sign == ":" and rest:
        return line, after, 'a ":" after a key wants a space behind it', f"write {meant}"
    if sign in (";", "="):
        return line, after, f'a key ends with ":", and not with "{sign}"', f"write {meant}"
    if sign:
        return None
    return line, after, f'there is no ":" behind the key {shown(key)}', f"write {meant}"


def _near(lines: list[str], at: int) -> Iterator[int]:
    """The line that was told, where it has no key, and the one with text above it."""
    if at < len(lines):
        yield at
    above = min(at, len(lines)) - 1
    while above >= 0 and not _uncommented(lines[above]).strip():
        above -= 1
    if above >= 0:
        yield above


def _is_text(lines: list[str], at: int, depth: int) -> bool:
    """Whether a line is one of a text of several lines."""
    for number in range(at - 1, -1, -1):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip(" ")) < depth:
            return _TEXT_BEGINS.search(line) is not None
    return False


def _open_quotes(lines: list[str], at: int) -> Said | None:
    """Quotes that open on a line above and are closed by those that open on this one."""
    opened: tuple[int, int, str] | None = None
    for number, line in enumerate(lines[: at + 1]):
        column, last = 0, ""
        while column < len(line):
            char = line[column]
            if opened is not None:
                if char == "\\" and opened[2] == '"':
                    column += 1
                elif char == opened[2]:
                    if number == at and opened[0] < number:
                        return _never_closed(opened)
                    opened, last = None, char
            elif char == "#" and (column == 0 or line[column - 1].isspace()):
                break
            elif char in "\"'" and (last == "" or last in _BEFORE_QUOTES):
                opened = number, column, char
            elif not char.isspace():
                last = char
            column += 1
    return None


def _never_closed(opened: tuple[int, int, str]) -> Said:
    line, column, sign = opened
    message = "the quotes that open here are not closed on this line"
    return line + 1, column + 1, message, f"close them: {sign}"


def _uncommented(line: str) -> str:
    return _COMMENT.sub("", line)


def _cut(text: str) -> str:
    return text if len(text) <= 40 else "…"
