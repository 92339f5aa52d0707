"""Warns of expressions for paths that match no path at all.

An expression must match the whole path, and every path begins with "/". Who knows proxies that
search in it writes `\\.php$` or `[^/]+`, which would wait for ever. It is read once, without
recursion: of each part, whether it may begin with a slash and whether it may be nothing. Whatever
is not understood may. Called by the validator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from reconciler.language.raw import RawEntity

_OPENING = re.compile(r"\((?:\?(?:P?<[^>]*>|[a-zA-Z-]*:))?")
_NOTHING = re.compile(r"\(\?[a-zA-Z-]*\)|\^|\$|\\[Az]|\\[bB](?:\{[a-z-]+\})?")
_SPACED = re.compile(r"\(\?[a-wyzA-Z]*x")
_REPEAT = re.compile(r"[*+?]|\{ *(\d+) *(,? *\d* *)\}")
_CODE = re.compile(r"\\(?:[xuU]\{([0-9A-Fa-f]+)\}|x([0-9A-Fa-f]{2})|u(\w{4})|U(\w{8}))")
_PROPERTY = re.compile(r"\\[pP](?:\{[^}]*\}|.)")
_POSIX = re.compile(r"\[:(\^?)([a-z]+):\]")
_SET_HEAD = re.compile(r"(\^?)-*\]?")
"""A hyphen or a "]" right behind the opening of a set stands for itself."""
_SLASHES = frozenset("DWS")
"""Escapes of sets in which there is a slash; the other letters have none, but for those above."""
_NAMED_SLASHES = frozenset(("ascii", "graph", "print", "punct"))
_OPERATORS = ("&&", "--", "~~")
"""What makes a set of others."""


class _Part(NamedTuple):
    """One thing of an expression: whether it may begin with a slash, and whether be nothing."""

    slash: bool
    empty: bool


@dataclass(slots=True)
class _Group:
    """A group that is open, or the whole: its alternatives so far, and the last of them."""

    slash: bool = False
    empty: bool = False
    this_slash: bool = False
    this_empty: bool = True

    def add(self, part: _Part) -> None:
        self.this_slash |= self.this_empty and part.slash
        self.this_empty &= part.empty

    def close(self) -> _Part:
        """The next alternative begins, or none."""
        self.slash |= self.this_slash
        self.empty |= self.this_empty
        self.this_slash, self.this_empty = False, True
        return _Part(self.slash, self.empty)


def warn_of_expressions(raw: RawEntity) -> None:
    """Warn where a frontend's path is an expression that cannot begin with a slash."""
    if raw.key.kind != "frontend" or "path" not in raw.body.items:
        return
    node = raw.body.items["path"].items.get("regex")
    if node is None or not isinstance(node.value, str) or begins_with_slash(node.value):
        return
    message = f'{raw.key}: path: "{node.value}" matches no path: every path begins with "/"'
    raw.document.warn(node, message, _instead(node.value))


def begins_with_slash(pattern: str) -> bool:
    """Tell whether a match of the expression may begin with a slash; if in doubt, it may."""
    if _SPACED.search(pattern):
        # Spaces and comments mean nothing there.
        return True
    groups, at = [_Group()], 0
    while at < len(pattern):
        char = pattern[at]
        if nothing := _NOTHING.match(pattern, at):
            at = _repeated(pattern, nothing.end(), _Part(slash=False, empty=True), groups[-1])
        elif char == "(":
            opening = _OPENING.match(pattern, at)
            at = opening.end() if opening else at + 1
            groups.append(_Group())
        elif char == "|":
            groups[-1].close()
            at += 1
        elif char == ")" and len(groups) > 1:
            at = _repeated(pattern, at + 1, groups.pop().close(), groups[-1])
        else:
            slash, at = _single(pattern, at)
            at = _repeated(pattern, at, _Part(slash, empty=False), groups[-1])
    return groups[0].close().slash


def _repeated(pattern: str, at: int, part: _Part, group: _Group) -> int:
    """Add a part with what stands behind it, and return where the next one begins."""
    while repeat := _REPEAT.match(pattern, at):
        at, least = repeat.end(), repeat[1]
        if least is not None and not int(least):
            most = repeat[2].replace(" ", "")
            part = _Part(part.slash and most not in ("", ",0"), empty=True)
        elif repeat[0] in "*?":
            # One behind another makes it lazy or repeats it again: in doubt it may be nothing.
            part = _Part(part.slash, empty=True)
    group.add(part)
    return at


def _single(pattern: str, at: int) -> tuple[bool, int]:
    """Tell of one character or set whether it may be a slash, and where it ends."""
    char = pattern[at]
    if char == "[":
        return _set(pattern, at)
    if char == "\\":
        return _escape(pattern, at)
    return char in "/.", at + 1


def _escape(pattern: str, at: int) -> tuple[bool, int]:
    if code := _CODE.match(pattern, at):
        return _coded(code) == "/", code.end()
    if found := _PROPERTY.match(pattern, at):
        return True, found.end()
    return pattern[at + 1 : at + 2] in _SLASHES | {"/"}, at + 2


def _coded(code: re.Match[str]) -> str:
    number = int(next(each for each in code.groups() if each), 16)
    return chr(number) if number < 0x110000 else ""


@dataclass(slots=True)
class _Set:
    """A set that is open: whether a slash is in its operands so far, and in the one that is read.

    For a single character union, difference and so on are those of its being in or not.
    """

    negated: bool
    left: bool = False
    operator: str = ""
    slash: bool = False
    last: str = ""
    """A character that may begin a range."""

    def operand(self, operator: str) -> bool:
        """One operand ends, by this operator or the end of the set; tells what they come to."""
        left, right = self.left, self.slash
        by_operator = {"&&": left and right, "--": left and not right, "~~": left != right}
        self.left = by_operator.get(self.operator, right)
        self.operator, self.slash, self.last = operator, False, ""
        return self.left


def _set(pattern: str, at: int) -> tuple[bool, int]:
    """Tell of a set, and of the sets in it, whether a slash is in it, and where it ends."""
    opened: list[_Set] = []
    in_doubt = False
    while at < len(pattern):
        if name := _POSIX.match(pattern, at) if opened else None:
            opened[-1].slash |= (name[2] in _NAMED_SLASHES) != bool(name[1])
            at = name.end()
        elif pattern[at] == "[":
            head = _SET_HEAD.match(pattern, at + 1)
            opened.append(_Set(negated=bool(head and head[1])))
            at = head.end() if head else at + 1
        elif pattern[at] == "]":
            at, inner = at + 1, opened.pop()
            is_in = inner.operand("") != inner.negated
            if not opened:
                return is_in or in_doubt, at
            opened[-1].slash |= is_in
        elif pattern[at : at + 2] in _OPERATORS:
            opened[-1].operand(pattern[at : at + 2])
            at += 2
        else:
            in_doubt |= _PROPERTY.match(pattern, at) is not None
            at = _add_member(opened[-1], pattern, at)
    return True, at


def _add_member(inner: _Set, pattern: str, at: int) -> int:
    """Add what stands in a set, alone or as the end of a range; return where the next begins."""
    is_range = pattern[at] == "-" and inner.last and pattern[at + 1 : at + 2] not in ("", "]", "-")
    char, is_slash, at = _member(pattern, at + 1 if is_range else at)
    inner.slash |= is_slash or bool(is_range and inner.last <= "/" <= char)
    inner.last = "" if is_range else char
    return at


def _member(inner: str, at: int) -> tuple[str, bool, int]:
    """Return one member of a set, "" for one that is a set, whether it has a slash, its end."""
    if inner[at] != "\\":
        return inner[at], inner[at] == "/", at + 1
    if code := _CODE.match(inner, at):
        return _coded(code), _coded(code) == "/", code.end()
    slash, end = _escape(inner, at)
    escaped = inner[at + 1 : at + 2]
    return "" if escaped.isalpha() else escaped, slash, end


def _instead(pattern: str) -> str:
    rest = pattern.removeprefix("^")
    hint = f"an expression must match the whole path: write {'.*' + rest.removesuffix('$')}"
    if "|" in rest:
        rest = f"(?:{rest})"
        hint = f"an expression must match the whole path: write .*{rest}"
    is_segment = re.match(r"[A-Za-z0-9\[(]|\\[wd]", rest) is not None
    return f"write /{rest}, or .*{rest}" if is_segment else hint
