from typing import Any

import pytest
from hypothesis import given

from reconciler.differ import diff_entities
from reconciler.planner import make_plan
from schemas.diagnostic import Diagnostic
from schemas.entity import Entity, EntityKey
from schemas.state import State
from tests.reconciler.building import entity, frontend
from tests.schemas.strategies import ENTITY_MAPS


def effect(before: Entity | None, after: Entity | None, open_now: int | None = None) -> str:
    key = (before or after or frontend("none")).key
    changes = diff_entities({key: after}, State([before] if before else []))
    counted = None if open_now is None else {key: open_now}
    return make_plan(changes, None, (), counted).effects[key]


def backend(**fields: Any) -> Entity:
    return entity("backend", "shop/a", **{"address": "127.0.0.1:9001", **fields})


def listener(**fields: Any) -> Entity:
    return entity("listener", "public", **{"address": "127.0.0.1:8080", **fields})


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_what_is_referred_to_is_made_first_and_removed_last(
    before: dict[EntityKey, Entity], after: dict[EntityKey, Entity]
) -> None:
    desired = after | dict.fromkeys(before.keys() - after.keys())
    plan = make_plan(diff_entities(desired, State(before.values())), "c")
    made = [change.key.kind for change in plan.changes if change.action != "remove"]
    removed = [change.key.kind for change in plan.changes if change.action == "remove"]
    order = ["settings", "cluster", "backend", "listener", "frontend"]
    assert made == sorted(made, key=order.index)
    assert removed == sorted(removed, key=order.index, reverse=True)
    assert [change.action for change in plan.changes[len(made) :]] == ["remove"] * len(removed)
    assert plan.effects.keys() == {change.key for change in plan.changes}
    assert all(plan.effects.values())


def test_a_plan_keeps_commit_and_warnings() -> None:
    warning = Diagnostic("warning", "a.yaml", 1, 1, "careful")
    plan = make_plan((), "c" * 40, [warning])
    assert (plan.commit, plan.changes, plan.warnings) == ("c" * 40, (), (warning,))


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, listener(), "opens a socket on every worker"),
        (listener(), None, "closes the socket on every worker; drains what is open"),
        (
            listener(),
            listener(address="127.0.0.1:8081"),
            "opens the new socket on every worker, then drains what is open on the old",
        ),
        (
            listener(),
            listener(limits={"connections": 5}),
            "takes effect with the next request; no connection is closed",
        ),
        (backend(), None, "gets no new requests; drains what is open"),
        (
            backend(),
            backend(address="127.0.0.1:9002"),
            "new requests go to the new address; drains what is open at the old one",
        ),
        (backend(), backend(weight=0), "gets no new requests; those in flight end"),
        (
            backend(),
            backend(weight=5),
            "changes its share of new requests; no connection is closed",
        ),
        (
            frontend("web"),
            frontend("web", cluster="other"),
            'sends new requests to cluster "other"; those in flight end at the old one',
        ),
        (
            frontend("web"),
            frontend("web", cluster="other", hostname="a.com"),
            "matches new requests anew; those in flight end as they began",
        ),
        (
            entity("settings", "settings"),
            entity("settings", "settings", workers=2),
            "starts or drains workers until the number is right",
        ),
        (
            entity("settings", "settings"),
            entity("settings", "settings", max_requests=2),
            "takes effect with the next request; no connection is closed",
        ),
    ],
)
def test_effects(before: Entity | None, after: Entity | None, text: str) -> None:
    assert effect(before, after) == text


def test_open_connections_are_counted_where_they_are_known() -> None:
    assert effect(backend(), None, 12) == "gets no new requests; drains 12 open connections"
    assert effect(listener(), None, 1).endswith("drains 1 open connection")
