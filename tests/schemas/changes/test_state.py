import pytest
from hypothesis import given

from reconciler.planning.differ import diff_entities
from schemas.changes.change import Change
from schemas.changes.state import EMPTY_DIGEST, State, StateMismatchError
from schemas.entities.entity import Entity, EntityKey, Provenance
from tests.schemas.strategies import ENTITY_MAPS

PLACE = Provenance("a.yaml", 1, 1)


def cluster(name: str, retries: int = 2) -> Entity:
    return Entity(EntityKey("cluster", name), {"retries": retries}, PLACE)


def test_an_empty_state_has_the_empty_digest() -> None:
    assert State().digest == EMPTY_DIGEST
    assert len(State()) == 0


@given(ENTITY_MAPS)
def test_the_digest_does_not_depend_on_order(found: dict[EntityKey, Entity]) -> None:
    ordered = list(found.values())
    assert State(ordered).digest == State(reversed(ordered)).digest


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_the_incremental_digest_is_the_recomputed_one(
    before: dict[EntityKey, Entity], after: dict[EntityKey, Entity]
) -> None:
    state, target = State(before.values()), State(after.values())
    gone = dict.fromkeys(before.keys() - after.keys())
    state.apply(diff_entities(after | gone, state))
    assert state.digest == state.recomputed_digest() == target.digest
    assert state == target


@given(ENTITY_MAPS)
def test_what_is_removed_again_leaves_nothing(found: dict[EntityKey, Entity]) -> None:
    state = State(found.values())
    state.apply(diff_entities(dict.fromkeys(found), state))
    assert state.digest == EMPTY_DIGEST
    assert not any(state.names(kind) for kind in ("settings", "cluster", "frontend"))


def test_it_reads_as_a_map() -> None:
    state = State([cluster("b"), cluster("a")])
    key = EntityKey("cluster", "a")
    assert state.names("cluster") == ["a", "b"]
    assert state.names("listener") == []
    assert key in state
    assert state[key] is state.get(key)
    assert set(state) == {key, EntityKey("cluster", "b")}
    assert state.get(EntityKey("cluster", "c")) is None


def test_where_an_entity_was_written_does_not_count() -> None:
    moved = Entity(EntityKey("cluster", "a"), {"retries": 2}, Provenance("b.yaml", 9, 9))
    assert State([cluster("a")]) == State([moved])
    assert State([cluster("a")]).digest == State([moved]).digest
    assert State() != "a state"


@pytest.mark.parametrize(
    "change",
    [
        Change("add", EntityKey("cluster", "a"), None, cluster("a"), ()),
        Change("update", EntityKey("cluster", "b"), cluster("b"), cluster("b", 3), ()),
        Change("remove", EntityKey("cluster", "b"), cluster("b"), None, ()),
    ],
)
def test_a_change_that_does_not_fit_changes_nothing(change: Change) -> None:
    state = State([cluster("a")])
    fits = Change("add", EntityKey("cluster", "new"), None, cluster("new"), ())
    with pytest.raises(StateMismatchError, match=change.action):
        state.apply([fits, change])
    assert state == State([cluster("a")])


def test_one_entity_cannot_change_twice_at_once() -> None:
    fits = Change("add", EntityKey("cluster", "a"), None, cluster("a"), ())
    with pytest.raises(StateMismatchError, match="twice"):
        State().apply([fits, fits])
