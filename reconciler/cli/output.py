"""Writes to the terminal: colours, tables and JSON for all commands.

Rules: the result on stdout, the rest on stderr; colour only on a terminal and never with NO_COLOR;
JSON is one value, keys in a stable order. Text that comes from the repository or from the network
is shown with its control characters escaped, so that it cannot drive the terminal.
"""

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from reconciler.cli.fitting import fitted
from reconciler.cli.streams import is_unicode
from schemas.values.text import visible

STYLES = {
    "add": "32",
    "bold": "1",
    "dim": "2",
    "error": "31;1",
    "remove": "31",
    "update": "33",
    "warning": "33;1",
}

_OURS = re.compile(f"(\033\\[(?:0|{'|'.join(STYLES.values())})m)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Painter:
    """Adds colour where the stream shows it, and nothing where it does not."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __call__(self, style: str, text: str) -> str:
        """Return the text in one of STYLES."""
        if not self.enabled or not text:
            return text
        return f"\033[{STYLES[style]}m{text}\033[0m"


def painter(stream: Any = None) -> Painter:
    """Return the painter of a stream, stdout by default."""
    stream = sys.stdout if stream is None else stream
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return Painter(not plain and stream.isatty())


def line(text: str = "") -> None:
    """Write one line of the result."""
    sys.stdout.write(_fitted(harmless(text, sys.stdout), sys.stdout) + "\n")


def note(text: str) -> None:
    """Write one line about the result, to stderr."""
    # The result counts, and the exit code: a full disk behind stderr changes neither.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(_fitted(harmless(text, sys.stderr), sys.stderr) + "\n")


def harmless(text: str, stream: TextIO) -> str:
    """Return text with all escaped that drives a terminal, but for our colours on one.

    Whatever a command forgets to make visible ends here; only line breaks and tabs may pass.
    """
    if text.isprintable():
        return text
    parts = _OURS.split(text) if stream.isatty() else [text]
    # Every other part is what was split at.
    return "".join(
        part if index % 2 else _CONTROLS.sub(lambda found: visible(found[0]), part)
        for index, part in enumerate(parts)
    )


def columns(stream: TextIO) -> int | None:
    """Return how many columns the terminal behind a stream has; None if there is none."""
    if not stream.isatty():
        return None
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None


def _fitted(text: str, stream: TextIO) -> str:
    room = columns(stream)
    return text if room is None else fitted(text, room)


def print_json(value: Any) -> None:
    """Write the result as JSON: indented for people on a terminal, compact for programs."""
    import json

    indent = 2 if sys.stdout.isatty() else None
    text = json.dumps(value, indent=indent, ensure_ascii=not is_unicode(sys.stdout))
    sys.stdout.write(text + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], paint: Painter) -> list[str]:
    """Return the lines of a table whose columns are as wide as they must be."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [paint("dim", _row(header, widths))]
    lines.extend(_row(row, widths) for row in rows)
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def value(found: Any) -> str:
    """Return a configuration value the way a plan shows it: JSON, on one line."""
    import json

    return visible(json.dumps(found, ensure_ascii=False))


def place(source: dict[str, Any] | None) -> str:
    """Return where an entity is written, for people."""
    if source is None:
        return "(not known)"
    return visible(f"{source['file']}:{source['line']}") if source["file"] else "(default)"


def duration(milliseconds: float) -> str:
    """Return a duration for people: 4.5 ms, 12 s, 3 min, 2 h, 5 d."""
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1_000
    for unit, size, limit in (("s", 1, 120), ("min", 60, 120), ("h", 3_600, 48)):
        if seconds < size * limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def moment(timestamp: str) -> str:
    """Return a timestamp of the daemon (ISO 8601, UTC) for people."""
    return timestamp[:19].replace("T", " ") + "Z"


def count(number: int, noun: str) -> str:
    """Return `1 backend`, `2 backends`."""
    return f"{number} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return a noun of several things."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun if noun.endswith("s") else f"{noun}s"
