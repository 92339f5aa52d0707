"""What is found by relations, against a look at all frontends."""

from __future__ import annotations

import random
from typing import Any

from reconciler.catalog.candidates import candidates, covering, passes_tls_on
from reconciler.catalog.views import MemoryView
from routing import rank_frontends
from schemas.entities.entity import NOWHERE, Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.registry import MODELS

NAMES = ["*", "*.test", "*.b.test", "b.test", "a.b.test", "*.a.b.test", "c.a.b.test", "test"]
HOSTS = [*(name for name in NAMES if "*" not in name), "x.b.test", "y.x.test", "other", "10.0.0.1"]
PATHS: list[dict[str, str]] = [
    {"prefix": "/"},
    {"prefix": "/a"},
    {"prefix": "/a/"},
    {"prefix": "/a/b"},
    {"exact": "/a"},
    {"exact": "/a/"},
    {"regex": "/a(/.*)?"},
    {"suffix": "/b"},
]
ASKED = ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/" + "a/" * 150]


def frontend(name: str, **value: Any) -> Entity:
    written = {"cluster": "c", "listeners": ["l"], **value}
    whole = MODELS["frontend"].of_value(written).value()
    return Entity(EntityKey("frontend", name), whole, NOWHERE)


def hostnames(dice: random.Random) -> dict[str, Any]:
    if dice.random() < 0.7:
        return {"hostname": dice.choice(NAMES)}
    return {"hostnames": sorted(dice.sample(NAMES[1:], 2))}


def drawn(dice: random.Random, count: int) -> list[Entity]:
    return [
        frontend(
            f"f{number}",
            **hostnames(dice),
            path=dice.choice(PATHS),
            listeners=dice.choice([["l"], ["m"], ["l", "m"]]),
            passthrough=dice.random() < 0.3,
        )
        for number in range(count)
    ]


def test_all_that_the_engine_would_take_are_among_them() -> None:
    dice = random.Random(5)
    narrower = 0
    for _ in range(40):
        every = drawn(dice, 12)
        view = MemoryView(every)
        for hostname in HOSTS:
            for path in ASKED:
                there = [each for each in every if "l" in each.typed(Frontend).listeners]
                matching, _ = rank_frontends(
                    there, hostname=hostname, path=path, query="", method="GET", headers=()
                )
                found = {key.name for key in candidates(view, "l", hostname, path)}
                assert set(matching) <= found <= {each.key.name for each in there}
                narrower += len(found) < len(there)
    assert narrower > 1000


def test_tls_is_passed_on_by_the_most_specific_hostname() -> None:
    dice = random.Random(6)
    told = set()
    for _ in range(300):
        every = drawn(dice, dice.randrange(4))
        for hostname in HOSTS:
            wanted = False
            for name in covering(hostname):
                there = [
                    each.typed(Frontend).passthrough
                    for each in every
                    if name in each.typed(Frontend).names and "l" in each.typed(Frontend).listeners
                ]
                if there:
                    wanted = any(there)
                    break
            assert passes_tls_on(MemoryView(every), "l", hostname) is wanted
            told.add(wanted)
    assert told == {True, False}


def test_the_hostnames_that_cover_one() -> None:
    assert list(covering("a.b.test")) == ["a.b.test", "*.b.test", "*.test", "*"]
    assert list(covering("[::1]")) == ["[::1]", "*"]
    assert list(covering("x")) == ["x", "*"]
