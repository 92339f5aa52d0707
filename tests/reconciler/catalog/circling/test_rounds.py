"""Redirects that lead to one another: what is surely without an end, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.catalog.circling import rounds
from reconciler.catalog.views import MemoryView
from schemas.entities.entity import EntityKey
from tests.reconciler.building import entity

LISTENERS = (
    entity("listener", "http", address="127.0.0.1:80"),
    entity("listener", "https", address="127.0.0.1:443", protocol="https"),
)
TO_EXAMPLE = {"hostname": "example.com"}
SHOP = {"cluster": "shop"}


def told(**frontends: dict[str, Any]) -> list[str]:
    made = [
        entity("frontend", name, line=line, **{"listeners": ["http"], **fields})
        for line, (name, fields) in enumerate(frontends.items(), 1)
    ]
    view = MemoryView([*LISTENERS, *made])
    return [each.message for each in rounds.endless([EntityKey("frontend", "web")], view)]


def web(**fields: Any) -> dict[str, dict[str, Any]]:
    return {"web": fields}


ENDLESS: list[dict[str, dict[str, Any]]] = [
    web(redirect=TO_EXAMPLE),
    web(hostname="*.w.com", redirect={"hostname": "www.w.com"}),
    web(redirect={"path": {"prefix": "/new"}}, path={"prefix": "/"}),
    web(path={"prefix": "/a"}, redirect={"path": {"full": "/a/b"}}),
    web(path={"exact": "/a"}, redirect={"path": {"full": "/a"}}),
    web(redirect={"hostname": "www.{hostname}"}),
    web(redirect={"path": {"full": "/x{path}"}}),
    {
        "web": {"path": {"prefix": "/a"}, "redirect": {"path": {"full": "/b"}}},
        "b": {"path": {"prefix": "/b"}, "redirect": {"path": {"full": "/a"}}},
    },
    {
        "web": {"listeners": ["https"], "redirect": {"scheme": "http"}},
        "to": {"listeners": ["http"], "redirect": {"scheme": "https"}},
    },
]
ENDING: list[dict[str, dict[str, Any]]] = [
    {**web(redirect=TO_EXAMPLE), "own": {"hostname": "example.com", **SHOP}},
    {
        **web(redirect={"path": {"prefix": "/new"}}, path={"prefix": "/"}),
        "new": {"path": {"prefix": "/new"}, **SHOP},
    },
    # Who gets the next request depends on more than its place.
    {
        **web(redirect=TO_EXAMPLE),
        "own": {"hostname": "example.com", "headers": {"X-A": "a"}, **SHOP},
    },
    {
        **web(path={"prefix": "/a"}, redirect={"path": {"full": "/a/b.php"}}),
        "php": {"path": {"suffix": ".php"}, **SHOP},
    },
    {
        **web(path={"prefix": "/a"}, redirect={"path": {"full": "/a/b"}}),
        "regex": {"path": {"regex": "/.*"}, **SHOP},
    },
    web(redirect={"hostname": "example.com", "port": 8080}),
    web(hostnames=["a.test", "www.a.test"], redirect={"hostname": "www.{hostname}"}),
    web(redirect=TO_EXAMPLE, headers={"X-A": "a"}),
    web(redirect=TO_EXAMPLE, methods=["POST"]),
    web(path={"prefix": "/a"}, redirect={"path": {"full": "/a/{query}"}}),
    # An error of its own.
    web(hostname="a.test", redirect={"hostname": "a.test"}),
    {"web": {"listeners": ["http"], "redirect": {"scheme": "https"}, "hostname": "a.test"}},
]


@pytest.mark.parametrize("frontends", ENDLESS)
def test_what_goes_round_is_told(frontends: dict[str, dict[str, Any]]) -> None:
    [message] = told(**frontends)
    assert message.startswith('frontend "web": its redirect leads to ')
    assert message.endswith("without an end")


@pytest.mark.parametrize("frontends", ENDING)
def test_what_may_end_is_not(frontends: dict[str, dict[str, Any]]) -> None:
    assert told(**frontends) == []


def test_a_pair_is_told_once_and_with_its_place() -> None:
    pair = ENDLESS[7]
    message = 'frontend "web": its redirect leads to frontend "b" (a.yaml:2), and back, '
    assert told(**pair) == [f"{message}without an end"]
    made = [
        entity("frontend", name, **{"listeners": ["http"], **fields})
        for name, fields in pair.items()
    ]
    view = MemoryView([*LISTENERS, *made])
    found = list(rounds.endless([each.key for each in made], view))
    assert [each.key.name for each in found] == ["b"]
