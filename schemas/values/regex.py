"""Checks a regular expression against the syntax of the engine, Rust's `regex` (RE2-like).

The engine compiles each pattern when a change is prepared and has the last word. This check is
here so that `kakehi validate` finds the usual mistakes offline: what Perl and Python offer and a
linear-time engine does not (look-around, back-references), and whatever does not nest or close.
"""

from __future__ import annotations

import re

from schemas.base import fault, shown

PATTERN_CHARS_MAX = 2048

_ESCAPES = frozenset("dDsSwWbBAzpPxuUnrtfva0123456789") - frozenset("0123456789")
_GROUP = re.compile(r"\(\?(?:P?<[A-Za-z_][A-Za-z0-9_.\[\]]*>|[imsUuxR]*(?:-[imsUuxR]+)?[:)])")
_COUNTED = re.compile(r"\{ *([0-9]+) *(?:(,) *([0-9]+)? *)?\}")
_RANGE_END = re.compile(r"[^-]-\[")
_WORD_EDGE = re.compile(r"b\{(?:start|end|start-half|end-half)\}")
_REFUSED_GROUPS = (
    ("(?=", "look-ahead"),
    ("(?!", "look-ahead"),
    ("(?<=", "look-behind"),
    ("(?<!", "look-behind"),
    ("(?>", "an atomic group"),
    ("(?P=", "a back-reference"),
    ("(?(", "a conditional"),
    ("(?#", "a comment group"),
)
_REPEAT_MAX = 1000
_INSTEAD = "name what is meant, or give what is not meant a frontend of its own that goes first"


def check_regex(pattern: object) -> str:
    """Return the pattern if the engine can be expected to take it."""
    if not isinstance(pattern, str):
        raise fault(f'expected a regular expression like "/item/[0-9]+", not {shown(pattern)}')
    if not pattern:
        raise fault("the regular expression is empty")
    if len(pattern) > PATTERN_CHARS_MAX:
        raise fault(f"the regular expression is too long: at most {PATTERN_CHARS_MAX} characters")
    reason = _Scanner(pattern).reason()
    if reason:
        raise fault(
            f"{shown(pattern)} is not a regular expression of the engine: {reason}",
            _INSTEAD if "look-" in reason or "back-reference" in reason else None,
        )
    return pattern


def groups_of(pattern: str) -> frozenset[str]:
    """Return what the groups of a pattern are called: their numbers, 0 for all of it, and names."""
    scanner = _Scanner(pattern)
    scanner.reason()
    return frozenset(map(str, range(len(scanner.groups) + 1))) | {*scanner.groups} - {""}


def literal_prefix(pattern: str) -> str:
    """Return the text with which every match begins, as far as it can be seen at a glance."""
    if "|" in pattern or "(?" in pattern:
        return ""
    prefix = ""
    for char in pattern.removeprefix("^"):
        if char in ".^$*+?()[]{}\\":
            # A quantifier makes the character before it optional or repeated.
            return prefix[:-1] if char in "*?{" else prefix
        prefix += char
    return prefix


class _Scanner:
    """One pass over a pattern that stops at the first thing the engine cannot take."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.open_groups: list[int] = []
        self.groups: list[str] = []
        self.repeatable = False

    def reason(self) -> str | None:
        while self.position < len(self.pattern):
            reason = self._step(self.pattern[self.position])
            if reason:
                return reason
        if self.open_groups:
            return f'the "(" at character {self.open_groups[-1] + 1} is never closed'
        return None

    def _step(self, char: str) -> str | None:
        match char:
            case "\\":
                return self._escape()
            case "[":
                return self._char_class()
            case "(":
                return self._open_group()
            case ")":
                return self._close_group()
            case "*" | "+" | "?" | "{":
                return self._quantifier(char)
        self.position += 1
        self.repeatable = char != "|"
        return None

    def _escape(self) -> str | None:
        rest = self.pattern[self.position + 1 :]
        if not rest:
            return "it ends with a lone backslash"
        if rest[0].isdigit():
            return f'"\\{rest[0]}" is a back-reference, which it does not have'
        if rest[0].isalpha() and rest[0] not in _ESCAPES:
            hint = ' (the end is "\\z")' if rest[0] == "Z" else ""
            return f'"\\{rest[0]}" is not an escape it knows{hint}'
        self.position += 2
        self.repeatable = True
        return self._escape_argument(rest)

    def _escape_argument(self, rest: str) -> str | None:
        edge = _WORD_EDGE.match(rest)
        if edge is not None:
            self.position += len(edge[0]) - 1
            return None
        if rest[0] not in "pPxuU" or not rest[1:].startswith("{"):
            return None
        end = self.pattern.find("}", self.position)
        if end < 0:
            return f'the "{{" after "\\{rest[0]}" is never closed'
        self.position = end + 1
        return None

    def _char_class(self) -> str | None:
        start, depth, first = self.position, 0, self.position
        while self.position < len(self.pattern):
            char = self.pattern[self.position]
            if char == "\\":
                reason = self._class_escape()
                if reason:
                    return reason
                continue
            # After a character, "-[" ends a range at "[" and does not begin a class.
            if self.position > first and _RANGE_END.match(self.pattern, self.position - 1):
                self.position += 2
                continue
            self.position += 1
            if char == "[":
                depth += 1
                self._leading_bracket()
                first = self.position
            elif char == "]":
                depth -= 1
                if depth == 0:
                    self.repeatable = True
                    return None
        return f'the "[" at character {start + 1} is never closed'

    def _class_escape(self) -> str | None:
        escape = self.pattern[self.position : self.position + 2]
        if escape in (r"\b", r"\B", r"\A", r"\z"):
            return f'"{escape}" is a place and no character, so that it cannot stand in [ ]'
        return self._escape()

    def _leading_bracket(self) -> None:
        # A "]" right after "[" or "[^" stands for itself.
        if self.pattern.startswith("^", self.position):
            self.position += 1
        if self.pattern.startswith("]", self.position):
            self.position += 1

    def _open_group(self) -> str | None:
        start = self.position
        for opening, what in _REFUSED_GROUPS:
            if self.pattern.startswith(opening, start):
                return f'"{opening}" is {what}, which it does not have'
        if not self.pattern.startswith("(?", start):
            self.position += 1
            self.open_groups.append(start)
            self.groups.append("")
            self.repeatable = False
            return None
        group = _GROUP.match(self.pattern, start)
        if group is None:
            return f'the group at character {start + 1} begins with "(?" and is of no known kind'
        self.position = group.end()
        if not group[0].endswith(")"):
            self.open_groups.append(start)
        if group[0].endswith(">"):
            self.groups.append(group[0].partition("<")[2].removesuffix(">"))
        self.repeatable = False
        return None

    def _close_group(self) -> str | None:
        if not self.open_groups:
            return f'the ")" at character {self.position + 1} closes nothing'
        self.open_groups.pop()
        self.position += 1
        self.repeatable = True
        return None

    def _quantifier(self, char: str) -> str | None:
        if not self.repeatable:
            return f'the "{char}" at character {self.position + 1} repeats nothing'
        if char != "{":
            self.position += 1
        else:
            counted = _COUNTED.match(self.pattern, self.position)
            if counted is None:
                return f'the "{{" at character {self.position + 1} is not a count; write "\\{{"'
            reason = _count_reason(counted[1], counted[3])
            if reason:
                return reason
            self.position = counted.end()
        return None


def _count_reason(least: str, most: str | None) -> str | None:
    if most is not None and int(most) < int(least):
        return f"the count {{{least},{most}}} ends before it begins"
    if int(most or least) > _REPEAT_MAX:
        return f"it repeats more than {_REPEAT_MAX} times"
    return None
