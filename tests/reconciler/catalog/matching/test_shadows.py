"""Frontends that get nothing of some hostnames: told of each with one that hides it."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.catalog.matching import shadows
from reconciler.catalog.views import MemoryView, StagedView
from reconciler.language.findings import Finding
from schemas.entities.entity import Entity, EntityKey
from tests.reconciler.building import frontend

WIDE: dict[str, Any] = {"path": {"prefix": "/.well-known"}}


def hidden(*changed: Entity, beside: tuple[Entity, ...] = ()) -> list[Finding]:
    """What is told when some come to others that are there."""
    view = StagedView(MemoryView(beside), {each.key: each for each in changed}, {})
    return list(shadows.hidden([each.key for each in changed], view))


@pytest.mark.parametrize(
    ("wide", "exact", "is_hidden"),
    [
        ({}, {}, True),
        ({"hostname": "*.test"}, {}, True),
        ({"hostname": "*.a.test"}, {}, False),
        ({"hostnames": ["*.a.test", "*.test"]}, {}, True),
        ({}, {"hostname": "*.test"}, True),
        ({}, {"hostnames": ["b.test", "c.test"]}, True),
        ({}, {"hostname": "*"}, False),
        # It has the name itself.
        ({"hostnames": ["*.test", "a.test"]}, {}, False),
        ({"hostname": "a.test"}, {}, False),
        ({"listeners": ["b"]}, {"listeners": ["c"]}, False),
        ({"listeners": ["b", "c"]}, {"listeners": ["a", "c"]}, True),
        # What asks for nothing more is for all that others leave.
        ({"path": {"prefix": "/"}}, {}, False),
        ({"path": {"prefix": "/"}, "methods": ["POST"]}, {}, True),
        ({"path": {"prefix": "/"}, "cookies": {"a": {"exact": "1"}}}, {}, True),
        ({"path": {"suffix": ".php"}}, {}, True),
        # What asks for more leaves something.
        ({}, {"methods": ["GET"]}, False),
        ({}, {"path": {"prefix": "/a"}}, False),
        ({}, {"client_addresses": ["10.0.0.0/8"]}, False),
        ({}, {"passthrough": True}, False),
    ],
)
def test_who_is_hidden(wide: dict[str, Any], exact: dict[str, Any], is_hidden: bool) -> None:
    one = frontend("wide", line=1, **{**WIDE, **wide})
    other = frontend("exact", line=2, **{"hostname": "a.test", **exact} | _one_of(exact))
    found = hidden(one, other)
    assert [each.key.name for each in found] == (["wide"] if is_hidden else [])
    # Whichever of them comes to the other.
    assert hidden(one, beside=(other,)) == found
    assert hidden(other, beside=(one,)) == found


def _one_of(exact: dict[str, Any]) -> dict[str, Any]:
    return {"hostname": "*"} if "hostnames" in exact else {}


def test_it_is_told_once_with_the_first_and_the_number_of_others() -> None:
    many = [frontend(f"site-{n}", line=n, hostname=f"s{n}.test") for n in range(3)]
    (found,) = hidden(frontend("wide", line=9, **WIDE), *many)
    assert (found.severity, found.key) == ("warning", EntityKey("frontend", "wide"))
    assert found.message == (
        'frontend "wide" gets no request for s0.test and 2 other hostnames: frontend "site-0" '
        "(a.yaml:0) has s0.test more exactly and takes all of the like"
    )
    (found,) = hidden(many[1], beside=(frontend("wide", line=9, **WIDE), many[0]))
    assert found.message == (
        'frontend "wide" gets no request for s1.test: frontend "site-1" (a.yaml:1) has s1.test '
        "more exactly and takes all of it"
    )


def test_the_cost_follows_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = [frontend(f"site-{n}", line=n, hostname=f"s{n}.x{n}.test") for n in range(5000)]
    wide = frontend("wide", line=1, **WIDE)
    view = MemoryView([*sites, wide])
    read = 0
    getting = MemoryView.__getitem__

    def counted(self: MemoryView, key: EntityKey) -> Entity:
        nonlocal read
        read += 1
        return getting(self, key)

    monkeypatch.setattr(MemoryView, "__getitem__", counted)
    (found,) = shadows.hidden([sites[17].key], view)
    assert "s17.x17.test" in found.message
    assert read < 10
    read = 0
    (found,) = shadows.hidden([wide.key], view)
    assert read < 4 * shadows.BEFORE_MAX
