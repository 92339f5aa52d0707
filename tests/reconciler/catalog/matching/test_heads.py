"""HEAD beside a frontend that protects GET alone."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.catalog.matching import heads
from reconciler.catalog.views import MemoryView
from schemas.entities.entity import EntityKey
from tests.reconciler.building import entity, frontend

OFFICE = {"allow": ["10.0.0.0/8"]}
AT = {"path": {"prefix": "/api"}}


def warned(protected: dict[str, Any], others: dict[str, dict[str, Any]], **said: Any) -> list[str]:
    view = MemoryView(
        [
            entity("listener", "public", address="127.0.0.1:80", **said),
            entity("policy", "office", **OFFICE),
            frontend("api", **protected),
            *(frontend(name, **keys) for name, keys in others.items()),
        ]
    )
    found = list(heads.unprotected([EntityKey("frontend", "api")], view))
    assert found == list(heads.unprotected([EntityKey("policy", "office")], view)) or not found
    return [each.message.split(" goes to ")[1].split()[1] for each in found]


PROTECTED = {**AT, "methods": ["GET", "POST"], "policies": ["office"]}


@pytest.mark.parametrize(
    ("protected", "others", "expected"),
    [
        (PROTECTED, {"app": {}}, ['"app"']),
        (PROTECTED, {"rest": {**AT}}, ['"rest"']),
        (PROTECTED, {"rest": {**AT, "methods": ["HEAD"], "cluster": "b"}}, ['"rest"']),
        # It is asked for the same.
        (PROTECTED, {"app": {"policies": ["office"]}}, []),
        (PROTECTED, {"rest": {**AT, "methods": ["HEAD"], "policies": ["office"]}, "app": {}}, []),
        # Nobody takes it, or nowhere.
        (PROTECTED, {}, []),
        (PROTECTED, {"rest": {**AT, "methods": ["PUT"]}}, []),
        (PROTECTED, {"other": {"hostname": "other.test"}}, []),
        (PROTECTED, {"other": {"path": {"prefix": "/other"}}}, []),
        (PROTECTED, {"none": {"cluster": None, "respond": {"status": 404}}}, []),
        # It is named, or nothing is protected.
        ({**PROTECTED, "methods": ["GET", "HEAD"]}, {"app": {}}, []),
        ({**PROTECTED, "methods": []}, {"app": {}}, []),
        ({**PROTECTED, "policies": []}, {"app": {}}, []),
    ],
)
def test_who_takes_the_head_of_what_is_protected(
    protected: dict[str, Any], others: dict[str, dict[str, Any]], expected: list[str]
) -> None:
    assert warned(protected, others) == expected


def test_what_a_listener_asks_is_asked_of_both() -> None:
    assert warned({**PROTECTED, "policies": []}, {"app": {}}, policies=["office"]) == []
