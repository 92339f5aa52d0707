"""What befell the state, for `status`: each with its time, and only for as long as it is of use.

Nobody confirms a note. So one leaves when what it says holds no more, if that can be known, and
after a day in any case: the log has it. Made by `reconciler.storage.opened`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from schemas.record import record

TOLD_S = 24 * 3600.0
_NOTES_MAX = 9


@record
class _Note:
    text: str
    until: float
    is_until_applied: bool


class Notes:
    """Those of one run of the daemon, the newest of them."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._notes: list[_Note] = []

    def add(self, text: str, *, until_applied: bool = False) -> None:
        """`until_applied`: it holds no more once another commit runs."""
        at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        note = _Note(f"{text} ({at})", self._now_s() + TOLD_S, until_applied)
        self._notes = [*self._notes, note][-_NOTES_MAX:]

    def applied(self) -> None:
        """Drop what holds only until another commit runs: one does."""
        self._notes = [note for note in self._notes if not note.is_until_applied]

    def told(self) -> list[str]:
        """Those that still are of use, the oldest first."""
        now = self._now_s()
        return [note.text for note in self._notes if now < note.until]
