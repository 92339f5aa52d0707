from typing import Any

import pytest
from hypothesis import given

from reconciler.planning.differ import diff_entities
from reconciler.planning.planner import NOTHING_KNOWN, Live, make_plan
from schemas.changes.plan import Consequence
from schemas.changes.state import State
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey
from tests.reconciler.building import entity, frontend
from tests.schemas.strategies import ENTITY_MAPS


def effect(
    before: Entity | None,
    after: Entity | None,
    live: Live = NOTHING_KNOWN,
    meant: Consequence | None = None,
) -> str:
    key = (before or after or frontend("none")).key
    changes = diff_entities({key: after}, State([before] if before else []))
    return make_plan(changes, None, (), live, {key: meant} if meant else {}).effects[key]


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
    order = ["settings", "cluster", "backend", "policy", "listener", "frontend"]
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
        (listener(), None, "closes the socket on every worker; drains its open connections"),
        (
            listener(),
            listener(address="127.0.0.1:8081"),
            "opens the new socket on every worker, then drains its open connections on the old",
        ),
        (
            listener(),
            listener(limits={"header_count": 5}),
            "takes effect with the next request; no connection is closed",
        ),
        (None, backend(), "gets its share of new requests"),
        (None, backend(weight=0), "gets no requests: its weight is 0"),
        (backend(), None, "gets no new requests; drains its open connections"),
        (
            backend(),
            backend(address="127.0.0.1:9002"),
            "new requests go to the new address; drains its open connections at the old one",
        ),
        (backend(), backend(weight=0), "gets no new requests; those in flight end"),
        (
            backend(),
            backend(address="127.0.0.1:9002", weight=0),
            "gets no new requests; drains its open connections at the old one",
        ),
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
            "matches new requests anew; those in flight end as before",
        ),
        (
            entity("settings", "settings"),
            entity("settings", "settings", workers=2),
            "starts and drains no worker: their number stays",
        ),
        (
            frontend("f", cluster=None, split={"shop": 95, "next": 5}),
            frontend("f", cluster="shop"),
            'sends new requests to cluster "shop"; those in flight end at the old one',
        ),
        (
            frontend("f", cluster="shop"),
            frontend("f", cluster=None, split={"shop": 3, "next": 1}),
            "splits new requests: 75 % to shop, 25 % to next; those in flight end as before",
        ),
        (
            entity("settings", "settings"),
            entity("settings", "settings", max_requests=2),
            "takes effect with the next request; no connection is closed",
        ),
        (
            frontend("web", hsts=None),
            frontend("web", compression=None, response_headers={"set": {"X-A": None}}),
            (
                "takes effect with the next request; those in flight end as before; "
                "switches off compression and response_headers.set.X-A; no longer switches off hsts"
            ),
        ),
        (
            None,
            entity("policy", "p", timeouts={"request": None}),
            "counts for whoever names it; switches off timeouts.request",
        ),
        (
            None,
            listener(error_pages={"404": None}),
            "opens a socket on every worker; switches off error_pages.404",
        ),
    ],
)
def test_effects(before: Entity | None, after: Entity | None, text: str) -> None:
    assert effect(before, after) == text


DRAINED = Consequence(drained=True)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, backend(), "gets no requests: it is drained"),
        (backend(), backend(weight=5), "gets no requests: it is drained"),
        (
            backend(),
            backend(address="127.0.0.1:9002"),
            "gets no requests: it is drained; drains its open connections at the old address",
        ),
        (None, backend(weight=0), "gets no requests: its weight is 0"),
    ],
)
def test_what_is_drained_gets_no_requests_at_a_new_address(
    before: Entity | None, after: Entity, text: str
) -> None:
    assert effect(before, after, NOTHING_KNOWN, DRAINED) == text


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        (listener(), "keeps its sockets, and drains 3 open connections of the old name"),
        (
            backend(),
            "opens connections of its own, and drains 3 open connections of the old name",
        ),
        (entity("cluster", "shop"), "the 2 in flight end as before"),
        (frontend("web"), "the 2 in flight end as before"),
        (entity("policy", "shop"), "no connection is closed"),
    ],
)
def test_a_rename_tells_what_becomes_of_what_is_in_use_by_the_old_name(
    entity: Entity, text: str
) -> None:
    former = EntityKey(entity.key.kind, "former")
    live = Live(connections={former: 3}, requests={former: 2})
    renamed = Consequence(renamed=former)
    assert effect(None, entity, live, renamed) == f"is renamed: its value stays; {text}"


BACKEND, LISTENER = backend().key, listener().key
CLUSTER = entity("cluster", "shop")
FRONTEND = frontend("web")


@pytest.mark.parametrize(
    ("before", "after", "live", "text"),
    [
        (
            backend(),
            None,
            Live(connections={BACKEND: 12}),
            "gets no new requests; drains 12 open connections",
        ),
        (
            backend(),
            backend(weight=0),
            Live(requests={BACKEND: 2}),
            "gets no new requests; the 2 in flight end",
        ),
        (
            listener(),
            None,
            Live(connections={LISTENER: 1}),
            "closes the socket on every worker; drains 1 open connection",
        ),
        (
            listener(),
            listener(address="127.0.0.1:8081"),
            Live(connections={LISTENER: 3}),
            "opens the new socket on every worker, then drains 3 open connections on the old",
        ),
        (
            CLUSTER,
            entity("cluster", "shop", retries=0),
            Live(requests={CLUSTER.key: 3}),
            "takes effect with the next request; the 3 in flight end as before",
        ),
        (
            CLUSTER,
            None,
            Live(requests={CLUSTER.key: 1}),
            "is forgotten once its last request has ended; the 1 in flight ends",
        ),
        (
            FRONTEND,
            frontend("web", cluster="other"),
            Live(requests={FRONTEND.key: 4}),
            'sends new requests to cluster "other"; the 4 in flight end at the old one',
        ),
        (
            FRONTEND,
            frontend("web", hostname="a.com"),
            Live(requests={FRONTEND.key: 0}),
            "matches new requests anew; none is in flight",
        ),
        (
            FRONTEND,
            None,
            Live(requests={FRONTEND.key: 7}),
            "takes no new requests; the 7 in flight end",
        ),
    ],
)
def test_what_a_change_touches_is_counted(
    before: Entity, after: Entity | None, live: Live, text: str
) -> None:
    assert effect(before, after, live) == text


@pytest.mark.parametrize(
    ("live", "text"),
    [
        (Live(leaving={1: 5}), "drains worker 1 with 5 open connections"),
        (
            Live(leaving={3: 1, 2: 0}),
            "drains workers 2 to 3 with 1 open connection (0 on 2, 1 on 3)",
        ),
        (
            Live(leaving=dict.fromkeys(range(4, 16), 2)),
            "drains workers 4 to 15 with 24 open connections",
        ),
        (Live(starting=range(2, 3)), "starts worker 2"),
        (Live(starting=range(2, 8)), "starts workers 2 to 7"),
    ],
)
def test_the_workers_that_come_and_go_are_named(live: Live, text: str) -> None:
    before, after = entity("settings", "settings"), entity("settings", "settings", workers=2)
    assert effect(before, after, live) == text
    more = entity("settings", "settings", workers=2, max_requests=2)
    assert effect(before, more, live) == f"{text}; the rest takes effect with the next request"


def test_a_rename_tells_that_counts_begin_anew() -> None:
    counting = entity("policy", "shop", rate_limit={"requests": 3})
    renamed = Consequence(renamed=EntityKey("policy", "former"))
    assert effect(None, counting, NOTHING_KNOWN, renamed) == (
        "is renamed: its value stays, rate_limit begins to count anew; no connection is closed"
    )


@pytest.mark.parametrize(
    ("before", "after", "anew"),
    [
        ({"requests": 3}, {"requests": 3, "by": {"header": "x-key"}}, True),
        ({"requests": 3, "by": {"header": "a"}}, {"requests": 3, "by": {"header": "b"}}, True),
        ({"requests": 3}, {"requests": 4}, False),
    ],
)
def test_who_is_counted_otherwise_is_counted_anew(
    before: dict[str, Any], after: dict[str, Any], anew: bool
) -> None:
    told = "; rate_limit begins to count anew" if anew else ""
    was, will_be = (entity("policy", "p", rate_limit=each) for each in (before, after))
    assert effect(was, will_be) == (
        f"takes effect with the next request of those that name it{told}"
    )
    was, will_be = (frontend("f", rate_limit=each) for each in (before, after))
    expected = f"takes effect with the next request; those in flight end as before{told}"
    assert effect(was, will_be) == expected


NEXT = "takes effect with the next connection"
MAKES_ROOM = "where more are open, each new one closes idle ones, and gets 503 where none is idle"


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (20, 3, f"{NEXT}; {MAKES_ROOM}"),
        (None, 3, f"{NEXT}; {MAKES_ROOM}"),
        (3, 20, f"{NEXT}; no connection is closed"),
    ],
)
def test_fewer_connections_close_idle_ones(before: int | None, after: int, text: str) -> None:
    def limits(count: int | None, **others: Any) -> Entity:
        return listener(limits={} if count is None else {"connections": count}, **others)

    def settings(count: int | None, **others: Any) -> Entity:
        given = {} if count is None else {"max_connections": count}
        return entity("settings", "settings", **given, **others)

    assert effect(limits(before), limits(after)) == text
    assert effect(settings(before), settings(after)) == text
    rest = text.replace(NEXT, "takes effect with the next request")
    assert effect(limits(before), limits(after, merge_slashes=False)) == rest
    assert effect(settings(before), settings(after, max_requests=2)) == rest


@pytest.mark.parametrize(
    ("after", "text"),
    [
        ({"h2c": True}, "counts from the next connection on"),
        (
            {"h2c": True, "merge_slashes": False},
            "takes effect with the next request, h2c with the next connection",
        ),
    ],
)
def test_what_a_connection_began_with_is_what_it_keeps(after: dict[str, Any], text: str) -> None:
    live = Live(connections={listener().key: 3})
    changed = listener(**after)
    expected = f"{text}; what is open goes on as it began: 3 open connections"
    assert effect(listener(), changed, live) == expected
