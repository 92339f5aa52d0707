"""Warns of expressions with a text that no path has in the form in which it is matched.

Paths are matched in one form: other characters than those of RFC 3986 §3.3 as escapes, these in
capitals, and no escape of what needs none. An expression that has to find `é` or `%2f` waits for
ever. Only texts are looked at that every match has; what is a set, a group or an alternative may be
anything. Called by the validator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from reconciler.language.raw import RawEntity

_TOKEN = re.compile(
    r"\\(?P<escaped>[^A-Za-z0-9])"
    r"|\\(?:[pPxuU]\{[^}]*\}|x[0-9A-Fa-f]{2}|.)"
    r"|(?P<open>\()|(?P<close>\))|(?P<or>\|)|(?P<set>\[)|(?P<repeat>[*+?]|\{[^}]*\})|[\^$.]"
    r"|(?P<plain>.)",
    re.DOTALL,
)
_OPTIONAL = re.compile(r"[*?]|\{ *0*[,}]")
_IGNORES_CASE = re.compile(r"\(\?[a-zA-Z]*[ix]")
"""Spaces mean nothing under `x`: it is left alone, too."""
_IN_PATHS = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


def warn_of_texts(raw: RawEntity) -> None:
    """Warn where a frontend's path is an expression with a text that is in no path."""
    if raw.key.kind != "frontend" or "path" not in raw.body.items:
        return
    items = raw.body.items["path"].items
    node = items.get("regex")
    if node is None or not isinstance(node.value, str):
        return
    pattern, ignores = node.value, items.get("ignore_case")
    folds = bool(ignores and ignores.value) or _IGNORES_CASE.search(pattern) is not None
    for text in texts_of(pattern):
        better = in_paths(text, folds=folds)
        if better is not None:
            message = f'{raw.key}: path: "{pattern}" matches no path: none has "{text}" in it'
            hint = 'match the query with "query:"' if "?" in text else f'in paths it is "{better}"'
            raw.document.warn(node, message, hint)
            return


def in_paths(text: str, *, folds: bool) -> str | None:
    """Return how a text stands in paths, where that differs; None where it may be in one."""
    found, at = "", 0
    while at < len(text):
        escape = _ESCAPE.match(text, at)
        if escape is not None:
            char = chr(int(escape[1], 16))
            kept = escape[0] if folds else escape[0].upper()
            found += char if _UNRESERVED.fullmatch(char) else kept
            at = escape.end()
            continue
        # A "%" at the end may go on in what is no text.
        plain = _IN_PATHS.fullmatch(text[at]) or (text[at] == "%" and at + 3 > len(text))
        found += text[at] if plain else quote(text[at], safe="")
        at += 1
    return found if found != text else None


def texts_of(pattern: str) -> Iterator[str]:
    """Yield the texts that each match of an expression has in it."""
    found, texts, depth, at = "", list[str](), 0, 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return
        at = token.end()
        if token["or"] and not depth:
            return
        depth += bool(token["open"]) - bool(token["close"])
        if token["set"]:
            at = _behind_set(pattern, at)
        char = token["plain"] or token["escaped"] if not depth else None
        if char:
            found += char
            continue
        if token["repeat"]:
            found = found[:-1] if _OPTIONAL.match(token["repeat"]) else found
        texts.append(found)
        found = ""
    yield from filter(None, [*texts, found])


def _behind_set(pattern: str, at: int) -> int:
    """Return where what stands behind a set begins."""
    depth, first = 1, True
    while at < len(pattern) and depth:
        char = pattern[at]
        if char == "\\":
            at += 1
        elif char == "[":
            depth += 1
        elif char == "]" and not first:
            depth -= 1
        first = first and char == "^"
        at += 1
    return at
