"""The plan: the changes of one commit in the order in which they take effect, with what they do.

Made by `reconciler.planning.planner.make_plan`; printed by `kakehi plan`; run by the transaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field

from schemas.changes.change import Change
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import EntityKey, Json
from schemas.record import record


@record
class Verdict:
    """Why the daemon would refuse a plan that is valid. `stage`: guard | prepare | journal."""

    stage: str
    reason: str


class Countable(ABC):
    """Changes that are counted where they lie."""

    @abstractmethod
    def counts(self, kind: str | None = None) -> Mapping[str, int]:
        """Return how many entities, or how many of a kind, are added, updated and removed."""


@record
class Consequence:
    """What a change means for others than the entity itself. In names None stands for 404."""

    heirs: tuple[str | None, ...] | None = None
    """The frontends that take a frontend's former requests over."""
    takes_from: tuple[str | None, ...] | None = None
    """The frontends from which a frontend takes requests."""
    untried: tuple[str, ...] = ()
    """Which of these two (`heirs`, `takes_from`) may be others, too: not all could be tried."""
    frontends: tuple[str, ...] = ()
    """Those that a change of a cluster or of policies concerns; of many, the first by name."""
    more_frontends: int = 0
    """How many there are beside these."""
    leaves_no_backend: bool = False
    """The cluster has no backend that takes requests any more: 503."""
    then: str | None = None
    """Who serves its requests in place of that, in words."""
    leads_to_no_backend: tuple[str, ...] = ()
    """The clusters without one to which it brings requests that did not come there before: 503."""
    without_certificate: tuple[str, ...] = ()
    """The hostnames that have a certificate now, and none until this one has been issued."""
    without_keys: tuple[str, ...] = ()
    """The URLs of sets of keys that requests need, and that have not been fetched yet: 503."""
    unreached: str | None = None
    """Why workers could not connect to a backend's socket as things are."""
    ends_drain: bool = False
    """A drained backend that takes requests by another name: drains are by name."""
    drained: bool = False
    """A backend that is there afterwards, and gets no requests by what an operator has said."""
    renamed: EntityKey | None = None
    """What is removed, or added, with the same value."""

    def to_json(self) -> dict[str, Json]:
        """Return the keys that it adds to a change."""
        taken = {"heirs": self.heirs, "takes_from": self.takes_from}
        told: dict[str, Json] = {
            "untried": list(self.untried),
            "frontends": list(self.frontends),
            "more_frontends": self.more_frontends,
            "leaves_no_backend": self.leaves_no_backend,
            "then": self.then,
            "leads_to_no_backend": list(self.leads_to_no_backend),
            "without_certificate": list(self.without_certificate),
            "without_keys": list(self.without_keys),
            "unreached": self.unreached,
            "ends_drain": self.ends_drain,
            "drained": self.drained,
            "renamed": self.renamed and self.renamed.name,
        }
        found: dict[str, Json] = {name: list(by) for name, by in taken.items() if by is not None}
        return found | {name: each for name, each in told.items() if each}


@record
class InUse:
    """How much of what a change touches is in use now, all workers; None: not known."""

    connections: int | None = None
    requests: int | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the form of `plan --json`."""
        return {"connections": self.connections, "requests": self.requests}


@record
class Plan:
    """An ordered list of changes. `commit` is None for a working tree that nobody committed."""

    commit: str | None
    changes: Sequence[Change]
    warnings: tuple[Diagnostic, ...] = ()
    effects: Mapping[EntityKey, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    """None: nothing is known that would stand in its way."""
    consequences: Mapping[EntityKey, Consequence] = field(default_factory=dict)
    in_use: Mapping[EntityKey, InUse] = field(default_factory=dict)

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
            {
                **change.to_json(),
                "effect": self.effects.get(change.key, ""),
                "in_use": self.in_use.get(change.key, InUse()).to_json(),
                **self.consequences.get(change.key, Consequence()).to_json(),
            }
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
