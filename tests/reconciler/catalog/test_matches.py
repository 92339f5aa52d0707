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
    (found,) = conflicts({}, {})
    assert 'prefix "/" of any hostname on' in found.message


def hidden(*found: Entity) -> list[Finding]:
    matches, entities = index(*found)
    return list(matches.hidden([one.key for one in found], entities))


@pytest.mark.parametrize(
    ("pattern", "prefix", "is_hidden"),
    [
        ("/item/[0-9]+", "/", True),
        ("/item/[0-9]+", "/item", True),
        ("/item[0-9]+", "/item", False),
        ("/item/[0-9]+", "/item/x", False),
        (".*", "/", True),
        (".*", "/a", False),
        ("/a|/b", "/a", False),
    ],
)
def test_a_prefix_hides_what_a_regex_could_match(
    pattern: str, prefix: str, is_hidden: bool
) -> None:
    regex = frontend("regex", path={"regex": pattern})
    found = hidden(regex, frontend("web", line=7, path={"prefix": prefix}))
    assert [finding.key for finding in found] == ([regex.key] if is_hidden else [])


def test_the_warning_says_who_hides_it() -> None:
    (found,) = hidden(frontend("regex", path={"regex": "/a/.*"}), frontend("web", line=7))
    assert found.severity == "warning"
    assert found.message == (
        'frontend "regex" never gets a request: frontend "web" (a.yaml:7) takes all under "/", '
        "and a prefix goes before a regex"
    )


@pytest.mark.parametrize(
    "web",
    [
        {"methods": ["GET"]},
        {"headers": {"x-a": "1"}},
        {"query": {"v": "1"}},
        {"hostname": "a.com"},
        {"listeners": ["other"]},
        {"path": {"exact": "/"}},
    ],
)
def test_what_lets_requests_through_hides_nothing(web: dict[str, Any]) -> None:
    assert hidden(frontend("regex", path={"regex": "/a/.*"}), frontend("web", **web)) == []


def test_one_listener_that_reaches_it_is_enough() -> None:
    regex = frontend("regex", listeners=["public", "other"], path={"regex": "/a/.*"})
    assert hidden(regex, frontend("web")) == []
    assert len(hidden(regex, frontend("web", listeners=["other", "public"]))) == 1


def test_a_new_prefix_is_held_against_the_regexes_that_are_there() -> None:
    regex, web = frontend("regex", path={"regex": "/a/.*"}), frontend("web")
    matches, entities = index(regex, web)
    assert [found.key for found in matches.hidden([web.key], entities)] == [regex.key]
    unrelated = frontend("other", hostname="a.com")
    matches, entities = index(regex, web, unrelated)
    assert list(matches.hidden([unrelated.key], entities)) == []
