from types import ModuleType
from typing import Any

import pytest

from reconciler.catalog import matches
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
