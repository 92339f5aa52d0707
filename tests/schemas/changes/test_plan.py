from schemas.changes.change import Change
from schemas.changes.plan import Plan
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey, Provenance

KEY = EntityKey("backend", "shop/a")
ENTITY = Entity(KEY, {"address": "127.0.0.1:1", "weight": 100}, Provenance("a.yaml", 4, 7))


def test_json() -> None:
    warning = Diagnostic("warning", "a.yaml", 1, 1, "careful")
    plan = Plan("c" * 40, (Change("add", KEY, None, ENTITY, ()),), (warning,), {KEY: "appears"})
    assert plan.to_json() == {
        "commit": "c" * 40,
        "changes": [
            {
                "action": "add",
                "kind": "backend",
                "name": "shop/a",
                "fields": {},
                "source": {"file": "a.yaml", "line": 4},
                "effect": "appears",
                "in_use": {"connections": None, "requests": None},
            }
        ],
        "summary": {"add": 1, "update": 0, "remove": 0},
        "warnings": [warning.to_json()],
        "refusal": None,
    }


def test_an_empty_plan() -> None:
    plan = Plan(None, ())
    assert plan.counts() == {"add": 0, "update": 0, "remove": 0}
    assert plan.to_json()["commit"] is None
