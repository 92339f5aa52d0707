from reconciler.planning.differ import diff_entities
from schemas.changes.change import Change, FieldChange
from schemas.changes.state import State
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.registry import MODELS

KEY = EntityKey("cluster", "shop")


def entity(line: int, **fields: object) -> Entity:
    value = MODELS["cluster"].model_validate(fields).value()
    return Entity(KEY, value, Provenance("shop.yaml", line, 3))


def test_json_shows_durations_as_in_yaml() -> None:
    before, after = entity(3), entity(5, timeouts={"connect": "5s"}, retries=0)
    (change,) = diff_entities({KEY: after}, State([before]))
    assert change.to_json() == {
        "action": "update",
        "kind": "cluster",
        "name": "shop",
        "fields": {
            "retries": {"from": 2, "to": 0},
            "timeouts.connect": {"from": "3s", "to": "5s"},
        },
        "source": {"file": "shop.yaml", "line": 5},
    }
    fields = change.to_json(render=False)["fields"]
    assert isinstance(fields, dict)
    assert fields["timeouts.connect"] == {"from": 3000, "to": 5000}


def test_a_removal_cites_where_the_entity_was() -> None:
    change = Change("remove", KEY, entity(3), None, (FieldChange("retries", 2, None),))
    assert change.to_json()["source"] == {"file": "shop.yaml", "line": 3}
