"""The diagnostic: one error or warning about the configuration, at its file, line and column.

The loader, the validator and the catalog make them; `validate`, `plan`, `status` and `history`
print them.
"""

from __future__ import annotations

from typing import Literal

from schemas.entities.entity import Json
from schemas.record import record
from schemas.values.text import visible

Severity = Literal["error", "warning"]

_SHOWN_COLUMNS_MAX = 160
"""A longer source line is cut around the place that is meant."""


@record
class Diagnostic:
    """One finding. Lines and columns count from 1; line 0 means the file as a whole."""

    severity: Severity
    file: str
    line: int
    column: int
    message: str
    hint: str | None = None
    source_line: str | None = None
    width: int = 1

    def render(self) -> str:
        """Return `file:line:col: message`, the line with a caret under the place, and the hint."""
        label = "warning: " if self.severity == "warning" else ""
        # A name that somebody wrote may hold a line break, or what a terminal would obey.
        lines = [visible(f"{self.where}: {label}{self.message}".removeprefix(": "))]
        if self.source_line is not None and self.source_line.strip():
            lines += self._excerpt(self.source_line)
        if self.hint:
            lines.append(f"  hint: {visible(self.hint)}")
        return "\n".join(lines)

    @property
    def where(self) -> str:
        """The place, as compilers write it, so that editors and terminals can jump to it."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def to_json(self) -> dict[str, Json]:
        """Return the form of `--json` output."""
        return {
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "hint": self.hint,
            "source_line": self.source_line,
        }

    def _excerpt(self, source_line: str) -> list[str]:
        start = max(0, self.column - 1 - _SHOWN_COLUMNS_MAX // 2)
        # What a terminal would obey is shown as a blank; a tab keeps its width of one column.
        text = "".join(char if char.isprintable() else " " for char in source_line[start:])
        text = text[:_SHOWN_COLUMNS_MAX]
        gutter = f"{self.line:>5} | "
        offset = self.column - 1 - start
        carets = "^" * max(1, min(self.width, len(text) - offset))
        return [f"{gutter}{text}", f"{' ' * (len(gutter) - 2)}| {' ' * offset}{carets}"]


def sort_key(diagnostic: Diagnostic) -> tuple[str, int, int, str]:
    """Order diagnostics as one reads: by file, line, column."""
    return (diagnostic.file, diagnostic.line, diagnostic.column, diagnostic.message)
