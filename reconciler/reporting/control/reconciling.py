"""What reporting asks of the reconciliation loop, which lies above it and fits this Protocol.

Used by `reconciler.reporting.control.answers` and `reconciler.reporting.control.waiting`;
`reconciler.daemon` gives them the loop itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from reconciler.planning.consequences import Meaning
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.source import Changed, Head
from reconciler.storage.reading.running import Running
from reconciler.transaction.retrying import Retrying
from schemas.changes.plan import Plan
from schemas.entities.diagnostic import Diagnostic
from schemas.messages.status import LoadingStatus


class Proposes(Protocol):
    """Who looks at commits, and at what could become one."""

    async def plan(
        self, wanted: Callable[[Running], Changed], commit: str | None, meaning: Meaning
    ) -> tuple[Plan | None, Sequence[Diagnostic], Running]:
        """What files would change, without any effect; the plan is None when they are invalid."""


class Reconciling(Protocol):
    """The loop that makes the newest commit the running one, as far as it is told of."""

    @property
    def head(self) -> Head | None:
        """The newest commit that a look has found."""

    @property
    def problem(self) -> str | None:
        """Why the running state is held, whatever the newest commit is."""

    @property
    def loading(self) -> LoadingStatus | None:
        """How far a commit is loaded, while it is."""

    @property
    def outcomes(self) -> Outcomes:
        """What became of the commits before."""

    @property
    def retrying(self) -> Retrying:
        """Which commit was given up, and whether and when one is tried again by itself."""

    async def asked(self) -> None:
        """Have a thread see whether the repository answers, before it is asked on the loop."""

    def wake(self) -> None:
        """Look now."""

    def retry(self) -> None:
        """Look now, and try what was refused or waits to be tried again."""

    def not_taken_over(self) -> list[str]:
        """What is to be said of files outside of the repository that differ from what is served."""
