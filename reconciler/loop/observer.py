"""What the reconciliation loop tells other parts, and asks them, without knowing them.

`reconciler.daemon.observing` fits this Protocol. Called by `reconciler.loop.reconcile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from reconciler.planning.planner import Live
from schemas.changes.change import Change
from schemas.changes.plan import Plan
from schemas.entities.diagnostic import Diagnostic


class Observer(Protocol):
    """What other parts do about a look, and what they know of a plan."""

    def applied(self, plan: Plan) -> None:
        """Every worker holds what it comes to."""

    def looked(self) -> None:
        """One look is over, whatever came of it."""

    def failed(self) -> None:
        """An error of the program itself ended a try: nobody knows who holds what."""

    def plan_warnings(self, changes: Sequence[Change]) -> list[Diagnostic]:
        """What should be said of some changes that is not known here."""

    def live(self, changes: Sequence[Change]) -> Live:
        """What of the traffic some changes touch."""
