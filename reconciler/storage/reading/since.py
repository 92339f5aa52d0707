"""The running state since one generation: what it was then, and what has been committed since.

A worker that is brought up takes a while to take a large state in, and nobody waits for it: it gets
the state of one moment, and then what it has missed. Made by `Store.since`, which tells it of each
commit; read by `reconciler.workers.slots.bringup`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from reconciler.storage.reading.state import StoredState
from schemas.changes.change import Change
from schemas.entities.entity import Entity, EntityKey


def changes_of(
    state: StoredState, puts: Iterable[Entity], removes: Iterable[EntityKey]
) -> list[Change]:
    """What a transaction does to a state, for those who read the state of before."""
    fresh, gone = list(puts), list(removes)
    keys = [*(entity.key for entity in fresh), *gone]
    before = {entity.key: entity for entity in state.many(keys)}
    found = [
        Change("update" if each.key in before else "add", each.key, before.get(each.key), each, ())
        for each in fresh
    ]
    found += [Change("remove", key, before.get(key), None, ()) for key in gone]
    return found


class Moment(NamedTuple):
    """Which state it is."""

    generation: int
    digest: str
    commit: str


class Missed(NamedTuple):
    """What leads from one moment to another, each entity once."""

    before: Moment
    after: Moment
    puts: Iterable[Entity]
    removes: Iterable[EntityKey]


class StateSince:
    """`entities` are those of the first moment, whatever is committed while they are read."""

    def __init__(self, moment: Moment, entities: Iterable[Entity]) -> None:
        self.first = moment
        self.entities = entities
        self.taken = self._now = moment
        self._missed: dict[EntityKey, Entity | None] = {}
        # Entities that came into being since: when they go again, nothing is left to tell.
        self._new: set[EntityKey] = set()

    @property
    def is_behind(self) -> bool:
        """Whether something was committed that has not been taken yet."""
        return self.taken != self._now

    @property
    def missed_count(self) -> int:
        """How many entities a newcomer has still to be told of."""
        return len(self._missed)

    def note(self, moment: Moment, changes: Iterable[Change]) -> None:
        """These were committed and led to that moment."""
        self._now = moment
        for change in changes:
            if change.key not in self._missed and change.before is None:
                self._new.add(change.key)
            if change.after is None and change.key in self._new:
                del self._missed[change.key]
                self._new.discard(change.key)
            else:
                self._missed[change.key] = change.after

    def take(self) -> Missed:
        """What was committed since the first moment, or since the last call."""
        puts = [entity for entity in self._missed.values() if entity is not None]
        removes = [key for key, entity in self._missed.items() if entity is None]
        missed = Missed(self.taken, self._now, puts, removes)
        self.taken = self._now
        self._missed, self._new = {}, set()
        return missed
