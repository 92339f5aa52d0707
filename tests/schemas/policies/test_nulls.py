"""What a written null says, at every key that there is: found by walking over the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_origin

import pytest
from pydantic import ValidationError

from schemas.base import Model, OneOf, usual_of
from schemas.describing.jsonschema import json_schema
from schemas.kinds.frontend import Frontend
from schemas.kinds.policy import Policy
from schemas.kinds.registry import MODELS, inner_model
from schemas.policies.effects import ADD_UP, Effects, switched_off

OFF_BY_NAME = {
    "error_pages": "503",
    "request_headers.add": "X-A",
    "request_headers.set": "X-A",
    "response_headers.add": "X-A",
    "response_headers.set": "X-A",
    "set_cookie": "session",
}
"""Of these maps each entry is a leaf."""
OFF = {
    *(f"{path}.{name}" for path, name in OFF_BY_NAME.items()),
    "compression",
    "cors",
    "hsts",
    "intercept",
    "timeouts.request",
    "timeouts.request_body",
    "timeouts.response_body",
    "timeouts.response_head",
    "timeouts.tunnel",
}
"""What a null switches off, written out from the guide."""


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value  # type: ignore[no-any-return]  # of at least one step


def leaves(model: type[Model], path: str = "") -> Iterator[str]:
    """Every key of policies that is merged by itself, whatever it holds."""
    for name, field in model.model_fields.items():
        here = f"{path}{name}"
        if get_origin(field.annotation) is dict:
            yield f"{here}.{OFF_BY_NAME[here]}"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Model):
            yield from leaves(field.annotation, f"{here}.")
        elif name != "remove":
            yield here


def every_map() -> Iterator[type[Model]]:
    waiting: list[type[Model]] = list(MODELS.values())
    seen: set[type[Model]] = set()
    while waiting:
        model = waiting.pop()
        if model not in seen:
            seen.add(model)
            yield model
            waiting += [
                inner
                for field in model.model_fields.values()
                if (inner := inner_model(field)) is not None
            ]


def takes_null(model: type[Model], name: str) -> bool:
    """Whether a key takes a null, whatever else is wrong with the map that it is in."""
    try:
        model.model_validate({name: None})
    except ValidationError as error:
        return not any(each["loc"][:1] == (name,) for each in error.errors())
    return True


def test_no_key_of_policies_is_left_out() -> None:
    assert set(leaves(Effects)) == {*ADD_UP, *OFF}
    assert set(ADD_UP).isdisjoint(OFF)


@pytest.mark.parametrize("path", sorted(OFF))
@pytest.mark.parametrize("model", [Policy, Frontend])
def test_a_null_at_a_leaf_is_a_word_of_its_own(model: type[Model], path: str) -> None:
    ends = {"listeners": ["l"], "cluster": "c"} if model is Frontend else {}
    value = model.model_validate({**ends, **nested(path, None)}).value()
    assert list(switched_off(value)) == [path]
    assert model.of_value(value).value() == value


@pytest.mark.parametrize("path", ADD_UP)
@pytest.mark.parametrize("model", [Policy, Frontend])
def test_where_all_words_count_a_null_is_refused_and_the_way_out_told(
    model: type[Model], path: str
) -> None:
    ends = {"listeners": ["l"], "cluster": "c"} if model is Frontend else {}
    with pytest.raises(ValidationError) as refused:
        model.model_validate({**ends, **nested(path, None)})
    (found,) = refused.value.errors()
    assert found["loc"] == tuple(path.split("."))
    assert "everybody's word counts" in found["msg"]
    assert "overridable: true" in found["ctx"]["hint"]


@pytest.mark.parametrize("model", sorted(every_map(), key=lambda each: each.__name__))
def test_where_nothing_is_merged_a_null_is_the_default_or_told_of(model: type[Model]) -> None:
    for name, field in model.model_fields.items():
        if model in (Frontend, Policy) and name in Effects.model_fields:
            continue
        if name in OFF_OF.get(model, ()) or issubclass(model, OneOf) or f"limits.{name}" in ADD_UP:
            continue
        is_default = not field.is_required() and usual_of(field) is None
        # Some have a default and may be without all the same: their description tells what it is.
        is_told = get_origin(field.annotation) is not dict and "null: " in str(field.description)
        assert takes_null(model, name) == (is_default or is_told), f"{model.__name__}.{name}"


OFF_OF: dict[type[Model], set[str]] = {
    type(usual_of(Effects.model_fields["timeouts"])): {
        path.partition(".")[2] for path in OFF if path.startswith("timeouts.")
    }
}


def test_the_schema_takes_null_just_where_the_models_do() -> None:
    for kind, model in (("policy", Policy), ("frontend", Frontend)):
        schema = json_schema(kind)
        for path in (*ADD_UP, *OFF):
            assert allows_null(schema, path.split(".")) == (path in OFF), (kind, path)
        for name in Effects.model_fields:
            field = model.model_fields[name]
            assert allows_null(schema, [name]) == (name in OFF), (kind, name, field)


def allows_null(schema: dict[str, Any], path: list[str]) -> bool:
    found: dict[str, Any] = schema
    for name in path:
        found = resolved(schema, found)
        entries = found.get("additionalProperties") or next(
            iter(found.get("patternProperties", {}).values()), None
        )
        found = found["properties"][name] if name in found.get("properties", {}) else entries
    found = resolved(schema, found)
    return found.get("type") == "null" or any(
        allows_null(schema | each, []) for each in found.get("anyOf", ()) if "$ref" not in each
    )


def resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = {**schema["$defs"][node["$ref"].rpartition("/")[2]]}
    return node
