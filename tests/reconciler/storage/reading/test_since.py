"""What a since tells is what leads from the first moment to now, however one came there."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from reconciler.storage.reading.since import Missed, Moment, StateSince
from schemas.changes.change import Change
from schemas.changes.state import State
from schemas.entities.entity import Entity, EntityKey
from tests.reconciler.entities import backend

# Of each backend its port; none: it is not there.
PORTS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3))


def entities(ports: dict[str, int]) -> list[Entity]:
    return [backend(f"shop/{name}", port) for name, port in ports.items()]


def changes(before: State, after: State) -> list[Change]:
    """All of `after` is put, changed or not."""
    found = [
        Change("update" if key in before else "add", key, before.get(key), entity, ())
        for key, entity in after.entities.items()
    ]
    gone = [key for key in before if key not in after]
    return [*found, *(Change("remove", key, before[key], None, ()) for key in gone)]


def applied(state: State, missed: Missed) -> State:
    """As an engine does it: what is removed has to be there."""
    held: dict[EntityKey, Entity] = dict(state.entities)
    for key in missed.removes:
        del held[key]
    for entity in missed.puts:
        held[entity.key] = entity
    return State(held.values())


@given(st.lists(PORTS, min_size=1, max_size=6), st.sets(st.integers(0, 5)))
def test_what_was_missed_leads_to_now(steps: Sequence[dict[str, int]], looks: set[int]) -> None:
    first, *later = (State(entities(ports)) for ports in steps)
    since = StateSince(Moment(1, first.digest, ""), tuple(first.entities.values()))
    held, now = State(since.entities), first
    assert not since.is_behind
    for number, state in enumerate(later, 2):
        since.note(Moment(number, state.digest, ""), changes(now, state))
        now = state
        assert since.is_behind
        if number in looks:
            missed = since.take()
            assert missed.before.digest == held.digest
            held = applied(held, missed)
            assert held.digest == missed.after.digest == now.digest
            assert not since.is_behind
    missed = since.take()
    assert applied(held, missed).digest == missed.after.digest == now.digest
    assert since.missed_count == 0
