from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from reconciler.catalog.matching import matches
from reconciler.catalog.views import MemoryView
from reconciler.language.findings import Finding
from schemas.entities.entity import Entity
from tests.reconciler.building import frontend


def index(*found: Entity) -> tuple[ModuleType, MemoryView]:
    return matches, MemoryView(found)


def conflicts(one: dict[str, Any], other: dict[str, Any]) -> list[Finding]:
    first, second = frontend("one", line=1, **one), frontend("two", line=2, **other)
    matches, entities = index(first, second)
    found = list(matches.conflicts([first.key, second.key], entities))
    assert found == list(matches.conflicts([second.key], entities))
    return found


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ({}, {}, True),
        ({"hostname": "a.com"}, {"hostname": "A.com."}, True),
        ({"path": {"prefix": "/a"}}, {"path": {"prefix": "/a/"}}, True),
        ({"methods": ["GET", "PUT"]}, {"methods": ["PUT", "POST"]}, True),
        ({"headers": {"X-A": "1"}}, {"headers": {"x-a": {"exact": "1"}}}, True),
        ({"listeners": ["public", "b"]}, {"listeners": ["public", "c"]}, True),
        ({"listeners": ["b"]}, {}, False),
        ({"hostname": "a.com"}, {}, False),
        ({"path": {"prefix": "/a"}}, {"path": {"exact": "/a"}}, False),
        ({"methods": ["GET"]}, {}, False),
        ({"methods": ["GET"]}, {"methods": ["PUT"]}, False),
        ({"headers": {"x-a": "1"}}, {"headers": {"x-a": "2"}}, False),
        ({"query": {"v": "1"}}, {}, False),
        ({"hostnames": ["a.com", "b.com"]}, {"hostname": "b.com"}, True),
        ({"hostnames": ["a.com", "b.com"]}, {"hostnames": ["b.com", "c.com"]}, True),
        ({"hostnames": ["a.com", "b.com"]}, {"hostnames": ["c.com", "*.com"]}, False),
        ({"cookies": {"a": "1"}}, {"cookies": {"a": {"exact": "1"}}}, True),
        ({"cookies": {"a": "1"}}, {"cookies": {"A": "1"}}, False),
        ({"cookies": {"a": "1"}}, {}, False),
        ({"headers": {"a": "1"}}, {"headers": {"a": {"exact": "1", "not": True}}}, False),
        ({"client_addresses": ["10.0.0.0/8"]}, {}, False),
        ({"client_addresses": ["10.0.0.0/8"]}, {"client_addresses": ["10.1.0.0/16"]}, True),
        ({"client_addresses": ["10.0.0.0/8"]}, {"client_addresses": ["11.0.0.0/8", "::1"]}, False),
        (
            {"client_addresses": ["10.0.0.0/8"], "methods": ["GET"]},
            {"client_addresses": ["10.0.0.0/8"]},
            False,
        ),
        ({"path": {"suffix": ".a"}}, {"path": {"suffix": ".a"}}, True),
        ({"path": {"suffix": ".a"}}, {"path": {"suffix": ".a", "ignore_case": True}}, False),
        ({"path": {"suffix": ".a"}}, {"path": {"regex": ".a"}}, False),
    ],
)
def test_equal_matches(one: dict[str, Any], other: dict[str, Any], conflict: bool) -> None:
    found = conflicts(one, other)
    assert [finding.key.name for finding in found] == (["two"] if conflict else [])


@pytest.mark.parametrize(
    ("of", "path"),
    [
        ("have a regex for paths of a.com", lambda n: {"path": {"regex": f"/{n}[a-z]"}}),
        ("have a suffix for paths of a.com", lambda n: {"path": {"suffix": f".{n}"}}),
        (
            'differ by nothing but conditions at prefix "/a" of a.com',
            lambda n: {"path": {"prefix": "/a"}, "headers": {"x-tenant": str(n)}},
        ),
        ("", lambda n: {"path": {"prefix": f"/a/{n}"}}),
    ],
)
def test_too_many_to_be_tried(of: str, path: Callable[[int], dict[str, Any]]) -> None:
    many = [frontend(f"f{n}", hostname="a.com", **path(n)) for n in range(matches.TRIED_MAX + 1)]
    assert list(matches.crowded([each.key for each in many[:-1]], MemoryView(many[:-1]))) == []
    found = list(matches.crowded([many[5].key, many[6].key], MemoryView(many)))
    told = (
        f'frontend "f5": with it more than 1000 frontends {of} on listener "public", each of which '
        "would be tried"
    )
    assert [each.message for each in found] == ([told] if of else [])


GOLD, USER = {"headers": {"x-tier": "gold"}}, {"headers": {"x-user": {"regex": "u.*"}}}


@pytest.mark.parametrize(
    ("one", "other", "undecided"),
    [
        (GOLD, USER, True),
        (GOLD, {"headers": {"x-tier": "lead"}}, False),
        (GOLD, {"headers": {"x-tier": {"exact": "gold", "not": True}}}, False),
        (GOLD, {"headers": {"x-tier": {"exact": "lead", "not": True}}}, True),
        (GOLD, {"headers": {"x-tier": {"regex": "g.*"}}}, True),
        (GOLD, {"headers": {"x-tier": {"present": False}}}, False),
        (GOLD, {"headers": {"x-tier": {"present": True}}}, True),
        (GOLD, GOLD, False),
        (GOLD, {"query": {"a": "1"}}, False),
        (GOLD, {"headers": {"x-tier": "gold", "x-user": "1"}}, False),
        (GOLD, USER | {"path": {"prefix": "/a"}}, False),
        (GOLD, USER | {"methods": ["GET"]}, False),
        (GOLD | {"methods": ["PUT"]}, USER | {"methods": ["GET"]}, False),
        (GOLD | {"methods": ["PUT", "GET"]}, USER | {"methods": ["GET"]}, True),
        (GOLD, USER | {"client_addresses": ["10.0.0.0/8"]}, False),
        ({"cookies": {"a": "1"}}, {"cookies": {"b": "1"}}, True),
        (
            {"query": {"a": "1"}, "cookies": {"b": "1"}},
            {"query": {"a": "1"}, "cookies": {"b": "2"}},
            False,
        ),
    ],
)
def test_who_asks_for_as_much_of_other_things(
    one: dict[str, Any], other: dict[str, Any], undecided: bool
) -> None:
    first, second = frontend("one", line=1, **one), frontend("two", line=2, **other)
    view = MemoryView([first, second])
    found = list(matches.undecided([first.key, second.key], view))
    assert found == list(matches.undecided([second.key], view))
    assert found == list(matches.undecided([first.key], view))
    assert [each.key.name for each in found] == (["two"] if undecided else [])
    if undecided:
        assert found[0].message == (
            'frontend "two" asks for as much as frontend "one" (a.yaml:1), at prefix "/" of any '
            'hostname: what both match goes to frontend "one", whose name is first'
        )


def test_a_conflict_names_both_and_what_they_share() -> None:
    same = {"hostname": "a.com", "methods": ["GET"], "path": {"exact": "/x"}}
    (found,) = conflicts(same, {**same, "methods": ["GET", "PUT"]})
    assert found.message == (
        'frontend "two" matches the same requests as frontend "one" (a.yaml:1): '
        'GET exact "/x" of a.com on listener "public"'
    )
    near = {"hostnames": ["a.com", "b.com"], "client_addresses": ["10.1.0.0/16", "::1"]}
    (found,) = conflicts(near, {"hostname": "b.com", "client_addresses": ["10.0.0.0/8"]})
    assert found.message.endswith(
        'prefix "/" by clients in 10.1.0.0/16 of b.com on listener "public"'
    )
    (found,) = conflicts({}, {})
    assert 'prefix "/" of any hostname on' in found.message
