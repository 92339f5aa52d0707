"""Text that others have written, as it may be shown. Used by diagnostics and the command line."""

from __future__ import annotations


def visible(text: str) -> str:
    """Return text on one line, with control characters escaped, as a terminal may show it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
