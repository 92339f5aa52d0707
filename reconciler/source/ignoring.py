"""Which files `.kakehiignore` leaves out: those of other programs beside a configuration. Pure.

The patterns are those of `.gitignore`, less sets of characters: `*`, `?`, `**`, `!`, a slash that
binds to the directory of the file, and one at the end for directories. Asked for commits
(`reconciler.source.source`) and for working trees (`reconciler.cli`), so that all agree.
"""

from __future__ import annotations

from functools import lru_cache

from schemas.record import record

NAME = ".kakehiignore"
BYTES_MAX = 64 * 1024
PATTERNS_MAX = 1000


@record
class _Pattern:
    steps: tuple[str, ...]
    """By directory; it begins with `**` where it may stand at any depth."""
    directories_only: bool
    takes_back: bool


@record
class Ignoring:
    """The patterns of one file, in their order; the last that matches decides."""

    patterns: tuple[_Pattern, ...] = ()

    def covers(self, path: str) -> bool:
        """Tell whether a file is left out, by its path from the config directory."""
        if not self.patterns:
            return False
        steps = tuple(path.split("/"))
        # What is below a directory that is left out is left out with it.
        return any(self._decides(steps[:length], steps) for length in range(1, len(steps) + 1))

    def _decides(self, steps: tuple[str, ...], whole: tuple[str, ...]) -> bool:
        is_directory = len(steps) < len(whole)
        for pattern in reversed(self.patterns):
            if (is_directory or not pattern.directories_only) and _matches(pattern.steps, steps):
                return not pattern.takes_back
        return False


NOTHING = Ignoring()


@lru_cache(maxsize=8)
def parse(content: bytes) -> Ignoring:
    """Return what a file says; one that is no text, or too large, says nothing."""
    if len(content) > BYTES_MAX:
        return NOTHING
    lines = content.decode(errors="replace").splitlines()
    found = (_pattern(line) for line in lines[:PATTERNS_MAX])
    return Ignoring(tuple(each for each in found if each is not None))


def _pattern(line: str) -> _Pattern | None:
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    takes_back = text.startswith("!")
    text = text.removeprefix("!")
    directories_only = text.endswith("/")
    text = text.removesuffix("/")
    if not text:
        return None
    # An empty step, as in "a//b", is no name that a file could have.
    steps = tuple(text.removeprefix("/").split("/"))
    return _Pattern(steps if "/" in text else ("**", *steps), directories_only, takes_back)


def _matches(pattern: tuple[str, ...], steps: tuple[str, ...]) -> bool:
    """Compare step by step; at each one it is known which parts of the pattern may come next."""
    states = _with_skips({0}, pattern)
    for step in steps:
        following: set[int] = set()
        for at in states:
            if at < len(pattern) and pattern[at] == "**":
                following |= {at, at + 1}
            elif at < len(pattern) and _like(pattern[at], step):
                following.add(at + 1)
        states = _with_skips(following, pattern)
        if not states:
            return False
    return len(pattern) in states


def _with_skips(states: set[int], pattern: tuple[str, ...]) -> set[int]:
    """Add what comes behind each `**`, which stands for nothing as well, but for one at the end."""
    found = set(states)
    for at in sorted(states):
        behind = at
        while behind < len(pattern) - 1 and pattern[behind] == "**":
            behind += 1
            found.add(behind)
    return found


def _like(pattern: str, name: str) -> bool:
    """Compare one name, at a cost that is the product of both lengths at most."""
    at = position = 0
    star, mark = -1, 0
    while position < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[position]):
            at += 1
            position += 1
        elif star >= 0:
            mark += 1
            at, position = star + 1, mark
        else:
            return False
    return pattern[at:].strip("*") == ""
