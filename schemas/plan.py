"""The plan: the changes of one commit in the order in which they take effect, with what they do.

Made by `reconciler.planning.planner.make_plan`; printed by `kakehi plan`; run by the transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from schemas.change import Change
from schemas.diagnostic import Diagnostic
from schemas.entity import EntityKey, Json


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the daemon would refuse a plan that is valid. `stage`: guard | prepare."""

    stage: str
    reason: str


@runtime_checkable
class Countable(Protocol):
    """Changes that are counted where they lie."""

    def counts(self, kind: str | None = None) -> Mapping[str, int]:
        """Return how many entities, or how many of a kind, are added, updated and removed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An ordered list of changes. `commit` is None for a working tree that nobody committed."""

    commit: str | None
    changes: Sequence[Change]
    warnings: tuple[Diagnostic, ...] = ()
    effects: Mapping[EntityKey, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    """None: nothing is known that would stand in its way."""

    def counts(self, kind: str | None = None) -> dict[str, int]:
        """Return how many entities, or how many of a kind, are added, updated and removed."""
        if isinstance(self.changes, Countable):
            return dict(self.changes.counts(kind))
        counted = Counter(
            change.action for change in self.changes if kind is None or change.key.kind == kind
        )
        return {action: counted[action] for action in ("add", "update", "remove")}

    def to_json(self) -> dict[str, Json]:
        """Return the form of `plan --json`."""
        changes: list[Json] = [
            {**change.to_json(), "effect": self.effects.get(change.key, "")}
            for change in self.changes
        ]
        warnings: list[Json] = [warning.to_json() for warning in self.warnings]
        summary: dict[str, Json] = dict(self.counts())
        return {
            "commit": self.commit,
            "changes": changes,
            "summary": summary,
            "warnings": warnings,
            "refusal": None
            if self.verdict is None
            else {"stage": self.verdict.stage, "reason": self.verdict.reason},
        }
