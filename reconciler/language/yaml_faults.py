"""Says in plain words what libyaml found wrong with a file, and how it is usually mended.

libyaml speaks of its own states ("did not find expected key"); an operator wants to know what to
look for. Called by `document` for syntax errors only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ruamel.yaml.error import MarkedYAMLError

from reconciler.language.foreign import EXPANDED_BEFORE, template_in
from reconciler.language.line_slips import slipped_above
from schemas.base import shown

_SIGN = 'a text that begins with ":" wants quotes, as in "::1"'
_SENTENCES: tuple[tuple[str, str, str | None], ...] = (
    (
        "mapping values are not allowed",
        'a ":" is not possible here',
        'put a text that has ": " in it in quotes, or check the indentation',
    ),
    (
        "did not find expected key",
        "expected a key here",
        "check the indentation of this line and of those above",
    ),
    ("could not find expected ':'", 'expected a ":" after the key', None),
    (
        "did not find expected '-' indicator",
        'expected a "-" here',
        "check the indentation of the list",
    ),
    (
        "block sequence entries are not allowed",
        "a list is not possible here",
        'begin the list on a line of its own, under the key, with "- "',
    ),
    ("expected ',' or ']'", 'expected a "," or a "]" here', "close the list"),
    ("expected ',' or '}'", 'expected a "," or a "}" here', "close the map"),
    (
        "found unknown escape character",
        "this escape is unknown",
        'in double quotes write "\\\\" for one backslash, or use single quotes',
    ),
    (
        "found unexpected ':'",
        'a ":" within { } or [ ] is not possible here',
        'put a text that has ":" in it in quotes, as in "127.0.0.1:8080"',
    ),
    ("expected the node content", "expected a value here", None),
    ("did not find expected node content", "expected a value here", None),
    ("control characters are not allowed", "this control character is not allowed", None),
)
_TAB = "a tab cannot indent in YAML", "use spaces"
_ALIAS = "expected alphabetic or numeric character"
_CURLY = re.compile("[“”„‘’‚]")
_NO_SPACE = re.compile(r"""^[ ]*(?:-[ ]+)?([\w.-]+:)[\[{"']""")
_MERGE = re.compile(r"<{7}(?: |$)")
_MERGE_END = re.compile(r">{7}(?: |$)")
_MERGE_LEFT = re.compile(r"={7}$|[>|]{7}(?: |$)")
_BAD_START = re.compile("found character .*cannot start any token|found a tab")


_KEY = re.compile(r"""^( *)["']?([\w./*-]+)["']?:(?:\s+([^\s#].*)|\s*#.*|\s*)$""")
_OF_LEVELS = (
    "mapping values are not allowed",
    "did not find expected key",
    "did not find expected '-' indicator",
)
"""What libyaml says of a line that is at no level that is open."""


_SECOND_DOCUMENT = "<document start>"
_USUAL_STEP = 2
_CLOSING = {"[": "]", "{": "}"}


class Fault(NamedTuple):
    """Something wrong at a line of a file."""

    line: int
    message: str
    hint: str


def unresolved_merge(lines: list[str]) -> Fault | None:
    """Return where a merge begins that git could not do by itself, and nobody has."""
    begin = next((number for number, line in enumerate(lines, 1) if _MERGE.match(line)), None)
    if begin is None:
        return _left_mark(lines)
    ends = (number for number, line in enumerate(lines, 1) if _MERGE_END.match(line))
    end = next((number for number in ends if number > begin), len(lines))
    message = f"an unresolved merge begins at line {begin}"
    hint = f"keep one side of lines {begin} to {end}, and none of git's three marks"
    return Fault(begin, message, hint)


def _left_mark(lines: list[str]) -> Fault | None:
    """Return a mark that stayed when the others were taken out."""
    for number, line in enumerate(lines, 1):
        if _MERGE_LEFT.match(line):
            message = f"a mark of git's, of a merge, is left over: {line.strip()[:20]}"
            return Fault(number, message, "keep the side that is meant, and delete this line")
    return None


def explain(error: MarkedYAMLError, lines: list[str]) -> tuple[int, int, str, str | None]:
    """Return line and column, the sentence and the hint for a syntax error in a file's lines.

    Lines and columns count from 1. What is found at the end of the file is mended where it begins.
    """
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return 0, 0, "the file is not YAML", None
    problem = error.problem or error.context or ""
    line, column = mark.line + 1, mark.column + 1
    # At the end of a stream without a final line break, libyaml is one line further than the file.
    rest = lines[mark.line :]
    template = template_in(rest[0]) if rest else None
    if template is not None and template <= mark.column + 1:
        return line, template + 1, "a template is not possible here", EXPANDED_BEFORE
    if rest and _ALIAS in problem:
        return (line, *_like_an_alias(rest[0], mark.column))
    if rest and _BAD_START.search(problem):
        return (line, column, *_bad_start(rest[0], mark.column))
    if not rest or not (rest[0][mark.column :] + "".join(rest[1:])).strip():
        return _at_the_end(error, problem, lines)
    if (slip := _slip(rest[0])) is not None:
        return (line, *slip)
    if (above := slipped_above(problem, lines, mark.line)) is not None:
        return above
    if (misplaced := _at_no_level(problem, lines, mark.line)) is not None:
        return misplaced
    if (unclosed := _unclosed(error, lines)) is not None:
        return unclosed
    sentence, hint = _sentence(problem)
    if hint is None and rest[0][mark.column : mark.column + 1] == ":":
        hint = _SIGN
    hints = [part for part in (hint, _began(error)) if part]
    return line, column, sentence, "; ".join(hints) or None


def _at_no_level(problem: str, lines: list[str], at: int) -> tuple[int, int, str, str] | None:
    """Return what to say of a key between two levels, or below one that has a value: where, what.

    By the lines alone: what is no map has no keys that could be looked at.
    """
    found = _KEY.match(lines[at])
    if found is not None and _SECOND_DOCUMENT in problem:
        return _first_too_far_right(lines, at, found)
    if found is None or not any(text in problem for text in _OF_LEVELS):
        return None
    depth, above = len(found[1]), at - 1
    while above >= 0 and (_indent(lines[above]) >= depth or not _has_text(lines[above])):
        above -= 1
    opened = _KEY.match(lines[above]) if above >= 0 else None
    if opened is None:
        return None
    if _is_usual(lines, at) and not _is_usual(lines, above):
        message = f"{shown(opened[2])} is too far left to stand beside {found[2]} (line {at + 1})"
        return above + 1, len(opened[1]) + 1, message, f"indent line {above + 1} more"
    between = [number for number in range(above + 1, at) if _has_text(lines[number])]
    is_list = bool(between) and all(lines[number].lstrip()[0] == "-" for number in between)
    if opened[3] if not between else is_list:
        last = max(_block(lines, at, depth))
        return _too_far((at, last), found, above, opened)
    inner = [number for number in between if _indent(lines[number]) == _indent(lines[between[0]])]
    first = _KEY.match(lines[inner[0]]) if inner and not is_list else None
    if first is None or len(first[1]) <= depth:
        return None
    # Which of two is wrong can only be guessed: the other is where most people have it.
    if len(inner) == 1 and len(first[1]) != len(opened[1]) + _USUAL_STEP:
        return _too_far((inner[0], between[-1]), first, at, found)
    message = f"{shown(found[2])} is too far left to stand beside {first[2]} (line {inner[0] + 1})"
    return at + 1, depth + 1, message, f"indent line {at + 1} more"


def _is_usual(lines: list[str], at: int) -> bool:
    """Whether a line is indented by one step below what it belongs to, as most people do it.

    What is between that and the line may be indented less than it is, and more than what it
    belongs to.
    """
    depth = _indent(lines[at])
    above = at - 1
    while above >= 0 and not (
        _has_text(lines[above]) and depth - _indent(lines[above]) >= _USUAL_STEP
    ):
        above -= 1
    return depth == (_indent(lines[above]) + _USUAL_STEP if above >= 0 else 0)


def _first_too_far_right(
    lines: list[str], at: int, key: re.Match[str]
) -> tuple[int, int, str, str] | None:
    """Return what to say where the first key of a file is indented, and another one is not."""
    first = next(number for number, line in enumerate(lines) if _has_text(line))
    found = _KEY.match(lines[first])
    if found is None or len(found[1]) <= len(key[1]):
        return None
    last = max(number for number in range(first, at) if _has_text(lines[number]))
    return _too_far((first, last), found, at, key)


def _unclosed(error: MarkedYAMLError, lines: list[str]) -> tuple[int, int, str, str] | None:
    """Return a bracket that is open where the next key begins, at no more than its indentation."""
    opened, noticed = error.context_mark, error.problem_mark
    if opened is None or noticed is None or opened.line >= noticed.line:
        return None
    sign = lines[opened.line][opened.column : opened.column + 1]
    if sign not in _CLOSING or _indent(lines[noticed.line]) > _indent(lines[opened.line]):
        return None
    message = f'the "{sign}" that opens here is never closed'
    return opened.line + 1, opened.column + 1, message, f'close it: "{_CLOSING[sign]}"'


def _too_far(
    block: tuple[int, int], key: re.Match[str], beside: int, other: re.Match[str]
) -> tuple[int, int, str, str]:
    first, last = block[0] + 1, block[1] + 1
    where = f"line {first}" if last == first else f"lines {first}–{last}"
    message = f"{shown(key[2])} is too far right to stand beside {other[2]} (line {beside + 1})"
    return first, len(key[1]) + 1, message, f"indent {where} less"


def _block(lines: list[str], at: int, depth: int) -> Iterator[int]:
    """Yield the lines from one on that are indented as much as it, or more."""
    for number in range(at, len(lines)):
        if _has_text(lines[number]):
            if _indent(lines[number]) < depth:
                return
            yield number


def _indent(source_line: str) -> int:
    return len(source_line) - len(source_line.lstrip(" "))


def _has_text(source_line: str) -> bool:
    return source_line.strip()[:1] not in ("", "#")


def _slip(source_line: str) -> tuple[int, str, str] | None:
    """Return what a reader sees at once in a line that is not YAML, and its column."""
    curly = _CURLY.search(source_line)
    if curly is not None:
        return curly.start() + 1, f"{curly[0]} is no quote in YAML", 'write straight quotes: "'
    joined = _NO_SPACE.match(source_line)
    if joined is not None:
        return joined.end(1), 'a ":" after a key wants a space behind it', f"write {joined[1]} …"
    return None


def _at_the_end(
    error: MarkedYAMLError, problem: str, lines: list[str]
) -> tuple[int, int, str, str | None]:
    context = error.context_mark
    opening = (
        "".join(lines[context.line : context.line + 1])[context.column :][:1] if context else ""
    )
    if context and opening and opening in "[{'\"":
        what = (
            "quotes that open here are" if opening in "'\"" else f'"{opening}" that opens here is'
        )
        return context.line + 1, context.column + 1, f"the {what} never closed", "close it"
    sentence, hint = _sentence(problem)
    last = max((number for number, line in enumerate(lines) if line.strip()), default=0)
    column = max(1, len(lines[last].rstrip()))
    hint = hint or "something above is not complete"
    return last + 1, column, f"{sentence}, and the file ends", hint


def _sentence(problem: str) -> tuple[str, str | None]:
    known = (found[1:] for found in _SENTENCES if found[0] in problem)
    return next(known, (f"the file is not YAML: {problem}", None))


def _bad_start(source_line: str, column: int) -> tuple[str, str | None]:
    char = source_line[column : column + 1]
    if char == "\t" or "\t" in source_line[:column]:
        return _TAB
    return f'no value begins with "{char}"', "put the text in quotes"


def _like_an_alias(source_line: str, column: int) -> tuple[int, str, str | None]:
    """Say that a text which begins by a sign of YAML's own wants quotes."""
    start = max(source_line.rfind(sign, 0, column + 1) for sign in "*&")
    if start < 0:
        return column + 1, "expected a value here", "put the text in quotes"
    text = re.split(r"[\s,\]}#]", source_line[start:])[0]
    hint = f'write "{text}"'
    return start + 1, f'a text that begins with "{text[:1]}" wants quotes', hint


def _began(error: MarkedYAMLError) -> str | None:
    if error.context_mark is None or error.problem_mark is None:
        return None
    line: int = error.context_mark.line + 1
    return f"what is broken began at line {line}" if line != error.problem_mark.line + 1 else None
