"""The guards: what a valid plan must not do by accident.

A commit that leaves nothing of a proxy that serves something is far more often a moved directory
or a wrong path than a wish. Nobody sits at a pull-driven proxy to type `--force`, so whoever means
it says so in the commit, and says how much: the number covers this plan and no other. A module
beside the planner, since what is too dangerous changes for other reasons than what a plan is.
Called by `reconciler.loop.proposing` and, without a daemon, `reconciler.cli.plans.offline_plan`.
"""

from __future__ import annotations

import re

from schemas.changes.plan import Plan
from schemas.changes.state import Entities

FRONTENDS_MIN = 10
"""With fewer frontends running, an empty plan is a try-out and no accident (octoDNS has 10 too)."""

_ALLOWED = re.compile(r"^Kakehi-Allow: *remove-frontends=([0-9]+) *$", re.MULTILINE)


def refusal(plan: Plan, running: Entities, message: str) -> str | None:
    """Return why a plan is blocked, None if it is not. `message` is that of the commit."""
    frontends = running.count("frontend")
    if frontends < FRONTENDS_MIN:
        return None
    counts = plan.counts("frontend")
    removed = counts["remove"]
    if removed < frontends or counts["add"]:
        return None
    if str(removed) in _ALLOWED.findall(message):
        return None
    return (
        f"this removes all {removed} frontends, so that every request would get 404; if that is "
        f'meant, commit it with the line "Kakehi-Allow: remove-frontends={removed}"'
    )
