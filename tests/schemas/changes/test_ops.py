import json

import pytest
from hypothesis import given

from reconciler.planning.differ import diff_entities
from reconciler.planning.planner import make_plan
from schemas.changes import ops
from schemas.changes.ops import chunks
from schemas.changes.state import State
from schemas.entities.entity import NOWHERE, Entity, EntityKey, canonical
from tests.schemas.strategies import ENTITY_MAPS


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_chunks_lead_from_one_state_to_the_other(
    before: dict[EntityKey, Entity], after: dict[EntityKey, Entity]
) -> None:
    gone = dict.fromkeys(before.keys() - after.keys())
    plan = make_plan(diff_entities(after | gone, State(before.values())), None)
    puts = [change.after for change in plan.changes if change.after is not None]
    held = {key: entity.value for key, entity in before.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "CHUNK_OPS_MAX", 2)
        for chunk in chunks(puts, [each.key for each in plan.changes if each.after is None]):
            part = json.loads(chunk.ops)
            assert 0 < len(part["puts"]) + len(part["removes"]) <= 2
            for remove in part["removes"]:
                del held[EntityKey(remove["kind"], remove["name"])]
            for put in part["puts"]:
                held[EntityKey(put["kind"], put["name"])] = put["value"]
    assert held == {key: entity.value for key, entity in after.items()}


@given(ENTITY_MAPS)
def test_a_chunk_has_the_canonical_bytes_of_its_entities(
    found: dict[EntityKey, Entity],
) -> None:
    text = "".join(chunk.ops for chunk in chunks(found.values()))
    for entity in found.values():
        assert canonical(entity.value).decode() in text


def page(number: int, size: int) -> Entity:
    return Entity(EntityKey("frontend", f"{number}"), {"x": "y" * size}, NOWHERE)


def test_a_chunk_is_bounded_and_an_entity_is_not_cut() -> None:
    size = ops.CHUNK_CHARS_MAX // 2
    small = [page(number, size) for number in range(5)]
    texts = [chunk.ops for chunk in chunks(small)]
    assert len(texts) == 3
    assert max(map(len, texts)) < 2 * ops.CHUNK_CHARS_MAX
    (alone,) = chunks([page(0, 5 * ops.CHUNK_CHARS_MAX)])
    assert len(alone.ops) > 5 * ops.CHUNK_CHARS_MAX


def test_a_chunk_names_the_contents_that_it_needs_and_few_of_them() -> None:
    def certificate(number: int) -> Entity:
        files = {
            field: {"path": f"{number}.{field}", "sha256": f"{number:063x}{place}"}
            for place, field in enumerate(("certificate", "private_key"))
        }
        return Entity(EntityKey("certificate", str(number)), {**files}, NOWHERE)

    count = ops.CHUNK_MATERIALS_MAX
    found = list(chunks(certificate(number) for number in range(count)))
    assert [len(chunk.materials) for chunk in found] == [count, count]
    assert found[0].materials[:2] == ["0" * 64, "0" * 63 + "1"]


def test_no_change_has_no_chunk() -> None:
    assert list(chunks((), ())) == []
