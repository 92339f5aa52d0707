"""Says in plain words what libyaml found wrong with a file, and how it is usually mended.

libyaml speaks of its own states ("did not find expected key"); an operator wants to know what to
look for. Called by the loader for syntax errors only.
"""

from __future__ import annotations

from ruamel.yaml.error import MarkedYAMLError

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
        "found unexpected end of stream",
        "the quotes that open here are never closed",
        "close them",
    ),
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
_BAD_START = "found character that cannot start any token"


def explain(
    error: MarkedYAMLError, source_line: str | None, *, at_end: bool
) -> tuple[str, str | None]:
    """Return the sentence and the hint for a syntax error on a line, or at the file's end."""
    problem = error.problem or error.context or "the file is not YAML"
    column = error.problem_mark.column if error.problem_mark else 0
    if _BAD_START in problem or "found a tab" in problem:
        return _bad_start(source_line or "", column)
    known = (found[1:] for found in _SENTENCES if found[0] in problem)
    sentence, hint = next(known, (f"the file is not YAML: {problem}", None))
    hint = hint or _began(error)
    if at_end:
        return f"{sentence}, where the file ends", hint or "something above is not closed"
    return sentence, hint


def place(error: MarkedYAMLError) -> tuple[int, int]:
    """Return the line and column to show, counted from 1; line 0 when there is none.

    A text whose quotes never close is found at the end of the file and mended where it begins.
    """
    mark = error.problem_mark or error.context_mark
    if "unexpected end of stream" in (error.problem or "") and error.context_mark:
        mark = error.context_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _bad_start(source_line: str, column: int) -> tuple[str, str | None]:
    char = source_line[column : column + 1]
    if char == "\t" or "\t" in source_line[:column]:
        return _TAB
    return f'no value begins with "{char}"', "put the text in quotes"


def _began(error: MarkedYAMLError) -> str | None:
    if error.context_mark is None or error.problem_mark is None:
        return None
    line: int = error.context_mark.line + 1
    return f"what is broken began at line {line}" if line != error.problem_mark.line + 1 else None
