"""What the database is written from: the header row, and one transaction.

`Begun` is made by `reconciler.loop` and carried out by `reconciler.transaction`; `Header` is the
row by which a start knows what runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from hashlib import blake2b
from typing import Protocol

from reconciler.storage.bulk import Bulk
from schemas.entities.entity import Entity, EntityKey, Mark


@dataclass(frozen=True, slots=True)
class Header:
    """The header row: which generation of which commit, by a version with which language."""

    generation: int
    digest: str
    commit: str | None
    tree: str | None
    applied_at: str | None
    epoch: int
    language: str

    @property
    def check_sum(self) -> str:
        """What tells a damaged row."""
        return blake2b(json.dumps(astuple(self)).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What workers serve, where the files had lost it; see `reconciler.workers.recovery`."""

    generation: int
    digest: str
    commit: str | None = None
    tree: str | None = None
    """None when it is not known where each entity is written."""


class Puts(Protocol):
    """Entities in the order of the plan, in memory or wherever they lie."""

    def __iter__(self) -> Iterator[Entity]:
        """Go through them."""

    def __len__(self) -> int:
        """Return how many there are."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction: what it is based on, and what it changes."""

    generation: int
    base_generation: int
    base_digest: str
    digest: str
    commit: str
    tree: str
    at: str
    puts: Puts
    removes: tuple[EntityKey, ...]
    moved: tuple[Entity, ...]
    files: Mapping[str, Mapping[EntityKey, Mark]] = field(default_factory=dict)
    """What changed files define now; see `Candidate.files`."""
    whole: bool = False
    """Whether `files` are all that there are, and not only those that changed."""
    bulk: Bulk | None = None
    """Where the rows lie of a change that is too large for memory; `puts` are read from there."""
