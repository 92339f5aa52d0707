"""Slips of typing in the example, one at a time: what is told is the line to be mended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.catalog.catalog import stage
from reconciler.catalog.views import MemoryView
from reconciler.language.document import read_document
from schemas.entities.diagnostic import Diagnostic

ROOT = Path(__file__).parents[3] / "config.example"
FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.rglob("*.yaml")}

Change = Callable[[str], Iterator[str]]
"""Yields what a line may have become."""


def without(sign: str) -> Change:
    def change(line: str) -> Iterator[str]:
        for found in re.finditer(re.escape(sign), code_of(line)):
            yield line[: found.start()] + line[found.end() :]

    return change


def instead(pattern: str, by: str) -> Change:
    def change(line: str) -> Iterator[str]:
        changed = re.sub(pattern, by, code_of(line), count=1)
        if changed != code_of(line):
            yield changed

    return change


def code_of(line: str) -> str:
    """Return a line without its comment."""
    return re.sub(r"(?:^|\s+)#.*", "", line)


SLIPS: dict[str, Change] = {
    **{f"without {sign}": without(sign) for sign in ':"[]{}'},
    "without the space": instead(": ", ":"),
    "semicolon": instead(":", ";"),
    "equals": instead(":", " ="),
    "tab": instead("^ +", "\t"),
    "one more": instead(r"^(?=\s*\S)", " "),
    "one less": instead("^ ", ""),
    "curly quotes": instead('"', "“"),
}
MEANS_THE_SAME = ("one more", "one less")
"""Of all at their level, or the only one: then it is indented otherwise, and that is all."""
TEXTS_ALL_THE_SAME = tuple(
    f'    503: {{body: {sign}<h1>Our shop takes a short break</h1>\\n"}}' for sign in ("", "“")
)


def variants(slip: str) -> Iterator[tuple[str, int, str]]:
    for path, text in FILES.items():
        lines = text.split("\n")
        for number, line in enumerate(lines):
            for changed in SLIPS[slip](line):
                if changed not in TEXTS_ALL_THE_SAME:
                    rest = lines[number + 1 :]
                    yield path, number + 1, "\n".join([*lines[:number], changed, *rest])


def errors(path: str, text: str) -> list[Diagnostic]:
    files = {name: content.encode() for name, content in {**FILES, path: text}.items()}
    candidate = stage(MemoryView(), files)
    return [each for each in candidate.diagnostics if each.severity == "error"]


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_at_its_line_with_a_way_out(slip: str) -> None:
    count, missed = 0, []
    for path, line, text in variants(slip):
        found = errors(path, text)
        if not found and slip in MEANS_THE_SAME:
            continue
        count += 1
        told = [each for each in found if (each.file, each.line) == (path, line) and each.hint]
        if not told:
            said = [each.render() for each in found]
            missed.append((path, line, text.split("\n")[line - 1], said))
    assert missed == []
    assert count >= 7


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n  b\n    c: 1\n", 2),
        ("a:\n  - b\n    c: 1\n", 2),
        ("a:\n  b: 1\n  c\n  d: 1\n", 3),
        ("a:\n  b: |\n    some\n    text\n   c: 1\n", 5),
        ("a:\n  b: {\n    c: 1\n    d: 2\n  }\n", 4),
        ('a: "x\nb: "y"\n', 1),
        ("a: 'x\nb: 'y'\n", 1),
        ('a: "x \\" y\nb: "z"\n', 1),
        ("a: it's # not 'quoted\nb\nc: 1\n", 2),
        (' a: 1\nb: "x"\n', 1),
        ("a: [1,\n  2\nb: 1\n", 1),
    ],
)
def test_where_a_slip_is_looked_for(text: str, line: int) -> None:
    [found] = read_document("x.yaml", text.encode()).diagnostics
    assert (found.line, bool(found.hint)) == (line, True), found.render()
