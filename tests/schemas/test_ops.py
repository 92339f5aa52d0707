import json

from hypothesis import given

from reconciler.planning.differ import diff_entities
from reconciler.planning.planner import make_plan
from schemas.entity import KINDS, Entity, EntityKey, canonical
from schemas.ops import plan_ops, state_ops
from schemas.state import State
from tests.schemas.strategies import ENTITY_MAPS


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_ops_lead_from_one_state_to_the_other(
    before: dict[EntityKey, Entity], after: dict[EntityKey, Entity]
) -> None:
    gone = dict.fromkeys(before.keys() - after.keys())
    ops = json.loads(plan_ops(make_plan(diff_entities(after | gone, State(before.values())), None)))
    held = {key: entity.value for key, entity in before.items()}
    for remove in ops["removes"]:
        del held[EntityKey(remove["kind"], remove["name"])]
    for put in ops["puts"]:
        held[EntityKey(put["kind"], put["name"])] = put["value"]
    assert held == {key: entity.value for key, entity in after.items()}


@given(ENTITY_MAPS)
def test_a_state_is_all_puts_in_the_order_of_kinds(found: dict[EntityKey, Entity]) -> None:
    data = state_ops(State(found.values()))
    ops = json.loads(data)
    assert ops["removes"] == []
    kinds = [KINDS.index(put["kind"]) for put in ops["puts"]]
    assert kinds == sorted(kinds)
    for entity in found.values():
        assert canonical(entity.value) in data
