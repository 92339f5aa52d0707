"""What other parts keep over a restart beside the state: a text under a name of each one's own.

`Store` fits it: the texts lie in the state database, each with its hash. Called by
`reconciler.storage.kept.drains` and `reconciler.source.following`.
"""

from __future__ import annotations

from typing import Protocol


class Memory(Protocol):
    """Texts by name."""

    def keep(self, name: str, text: str) -> None:
        """Remembers a text. Raises `OSError`."""

    def kept(self, name: str) -> str | None:
        """The text as it was kept; None when none was. Raises `DamagedError`, `OSError`."""
