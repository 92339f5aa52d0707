"""Which files `.kakehiignore` leaves out: those of other programs beside a configuration.

The patterns are those of `.gitignore`, less sets of characters: `*`, `?`, `**`, `!`, a slash that
binds to the directory of the file, and one at the end for directories. Asked for commits
(`reconciler.source.source`) and for working trees (`reconciler.cli`), so that all agree. What it
costs follows the length of the patterns and the number of names, and the loop does not wait for it
(`reconciler.stalling`).
"""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from typing import NamedTuple

from reconciler.stalling import spending
from schemas.record import record

NAME = ".kakehiignore"
BYTES_MAX = 64 * 1024
PATTERNS_MAX = 1000

_ANY_DEPTH = "**"
# Of so many directories it is remembered whether they are left out.
_DIRECTORIES_MAX = 4096


class _Piece(NamedTuple):
    """A part of a pattern between two stars: what stands where in it; all else is any letter."""

    length: int
    texts: tuple[tuple[int, str], ...]

    def is_at(self, name: str, at: int) -> bool:
        return all(name.startswith(text, at + offset) for offset, text in self.texts)

    def found(self, name: str, at: int, end: int) -> int:
        """Return the first place of it from `at`, so that it ends by `end`; -1 where none is."""
        if not self.texts:
            return at if at + self.length <= end else -1
        offset, text = self.texts[0]
        while (there := name.find(text, at + offset, end)) >= 0:
            at = there - offset
            if at + self.length > end:
                return -1
            if self.is_at(name, at):
                return at
            at += 1
        return -1


class _Step(NamedTuple):
    """What a pattern says of one name. The first place of each piece leaves most for the next."""

    first: _Piece
    between: tuple[_Piece, ...] = ()
    last: _Piece | None = None

    def fits(self, name: str) -> bool:
        first, last = self.first, self.last
        if last is None:
            return first.length == len(name) and first.is_at(name, 0)
        at, end = first.length, len(name) - last.length
        if at > end or not first.is_at(name, 0) or not last.is_at(name, end):
            return False
        for piece in self.between:
            there = piece.found(name, at, end)
            if there < 0:
                return False
            at = there + piece.length
        return True


@record
class _Pattern:
    steps: tuple[_Step | None, ...]
    """By directory, None for `**`; it begins with that where it may stand at any depth."""
    named: int
    """How many of them are no `**`."""
    directories_only: bool
    takes_back: bool

    def matches(self, names: tuple[str, ...]) -> bool:
        """Compare step by step; at each one it is known which of the pattern's may come next."""
        steps = self.steps
        if self.named > len(names):
            return False
        if self.named == 1 and len(steps) == 2 and (step := steps[1]) is not None:
            # Most are names at any depth.
            return step.fits(names[-1])
        if self.named == len(steps) != len(names):
            return False
        states = _with_skips({0}, steps)
        for name in names:
            following: set[int] = set()
            for at in states:
                if at == len(steps):
                    continue
                step = steps[at]
                if step is None:
                    following |= {at, at + 1}
                elif step.fits(name):
                    following.add(at + 1)
            states = _with_skips(following, steps)
            if not states:
                return False
        return len(steps) in states


@record
class Ignoring:
    """The patterns of one file, in their order; the last that matches decides."""

    patterns: tuple[_Pattern, ...] = ()
    _directories: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def covers(self, path: str) -> bool:
        """Tell whether a file is left out, by its path from the config directory.

        In a hurry, raises `HurriedError` behind what has taken too long.
        """
        if not self.patterns:
            return False
        # What is below a directory that is left out is left out with it.
        folder, slash, _ = path.rpartition("/")
        if slash and self.covers_directory(folder):
            return True
        with spending():
            return self._decides(path, is_directory=False)

    def covers_directory(self, path: str) -> bool:
        """Tell the same of a directory, and so of all that is in it."""
        if not self.patterns:
            return False
        known = self._directories.get(path)
        at = 0
        while known is None:
            at = path.find("/", at + 1)
            known = self._noted(path if at < 0 else path[:at], whole=at < 0)
        return known

    def _noted(self, folder: str, *, whole: bool) -> bool | None:
        """Whether a directory is left out; None where one within it has to be asked as well."""
        known = self._directories.get(folder)
        if known is None:
            with spending():
                known = self._decides(folder, is_directory=True)
            if len(self._directories) >= _DIRECTORIES_MAX:
                self._directories.clear()
            self._directories[folder] = known
        return known if known or whole else None

    def _decides(self, path: str, *, is_directory: bool) -> bool:
        names = tuple(path.split("/"))
        for pattern in reversed(self.patterns):
            if (is_directory or not pattern.directories_only) and pattern.matches(names):
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
    names = text.removeprefix("/").split("/")
    steps = tuple(None if name == _ANY_DEPTH else _step(name) for name in names)
    if "/" not in text:
        steps = (None, *steps)
    named = sum(step is not None for step in steps)
    return _Pattern(steps, named, directories_only, takes_back)


def _step(pattern: str) -> _Step:
    first, *others = (_piece(text) for text in pattern.split("*"))
    return _Step(first, tuple(others[:-1]), others[-1]) if others else _Step(first)


def _piece(text: str) -> _Piece:
    texts, at = [], 0
    for part in text.split("?"):
        if part:
            texts.append((at, part))
        at += len(part) + 1
    return _Piece(len(text), tuple(texts))


def _with_skips(states: set[int], steps: tuple[_Step | None, ...]) -> set[int]:
    """Add what comes behind each `**`, which stands for nothing as well, but for one at the end."""
    found = set(states)
    for at in sorted(states):
        behind = at
        while behind < len(steps) - 1 and steps[behind] is None:
            behind += 1
            found.add(behind)
    return found
