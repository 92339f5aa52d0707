"""Two values of one field, as a plan shows them: what differs is never cut, what is alike may be.

Pure. Called by `reconciler.cli.plans.render`.
"""

import difflib
from typing import Any

from reconciler.cli.output import value
from schemas.values.text import visible

CHARS_MAX = 72
"""A longer value is cut where it is like the other one."""
NOT_WRITTEN = "(none)"
"""An entry that is not there, which is not one that is null."""
_AROUND = 16
"""So much of what is alike is left before and behind what differs."""
_ADDED_CHARS_MAX = CHARS_MAX


def alone(found: Any) -> str:
    """Return a value that has no other side."""
    text = value(found)
    return text if len(text) <= _ADDED_CHARS_MAX else text[: _ADDED_CHARS_MAX - 1] + "…"


def both(sides: dict[str, Any]) -> tuple[str, str]:
    """Return both sides on one line each, cut only where they are alike."""
    missing = sides.get("missing")
    old, new = (NOT_WRITTEN if missing == each else value(sides[each]) for each in ("from", "to"))
    if max(len(old), len(new)) <= CHARS_MAX:
        return old, new
    if isinstance(sides["from"], list) and isinstance(sides["to"], list):
        before, after = sides["from"], sides["to"]
        entries = _only(before, after), _only(after, before)
        if any(entries):
            return _listed(entries[0], before), _listed(entries[1], after)
    head = _alike(old, new)
    shorter = min(len(old), len(new)) - head
    tail = min(shorter, _alike(old[::-1], new[::-1]))
    start = head - _AROUND if head > _AROUND + 1 else 0
    kept = _AROUND if tail > _AROUND + 1 else tail
    return tuple(  # type: ignore[return-value]  # two in, two out
        ("…" if start else "")
        + text[start : len(text) - tail + kept]
        + ("…" if kept < tail else "")
        for text in (old, new)
    )


def _only(one: list[Any], other: list[Any]) -> list[Any]:
    """What one list has and the other has not."""
    known = {value(each) for each in other}
    return [each for each in one if value(each) not in known]


def _listed(entries: list[Any], whole: list[Any]) -> str:
    texts = [value(each) for each in entries]
    alike = len(whole) - len(entries)
    return f"[{', '.join([*texts, *([f'… {alike} alike'] if alike else [])])}]"


def _alike(one: str, other: str) -> int:
    """How many characters are the same from the start."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def by_lines(before: Any, after: Any) -> list[str] | None:
    """Return texts of several lines as a line diff; None when one of them is no such text."""
    texts = [each for each in (before, after) if each is not None]
    if not all(isinstance(each, str) for each in texts) or not any("\n" in each for each in texts):
        return None
    old, new = ((each or "").splitlines() for each in (before, after))
    diff = list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]
    if not diff:
        # Alike but for the end of the last line.
        return None
    return [each[:1] + visible(each[1:]) for each in diff]
