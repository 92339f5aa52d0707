"""One list of keys, four times: of the models, the JSON Schema, the reference and the engine.

Found by walking over the models, at whatever depth. What each of the others has is asked of itself:
of the engine by a key that it does not know, at which it tells those that it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from proxy.engine_api import EngineApi, PrepareRefusedError
from schemas.base import Later, Model, later_of
from schemas.changes.ops import chunks
from schemas.describing.jsonschema import json_schema
from schemas.describing.reference import _ENTRY, reference_markdown
from schemas.entities.entity import NOWHERE, Entity, EntityKey, Json
from schemas.kinds.registry import MODELS, field_at, inner_model, parts, section_of
from tests.schemas.test_agreement import engine

__all__ = ["engine"]

Path = tuple[str, ...]
STRANGE = "zzz"
ENTRIES = {"error_pages": "503"}
"""How an entry of a map is called, where not every name will do."""
UNTOLD = {
    "client_certificate",
    "compression",
    "concurrency",
    "cors",
    "hsts",
    "mirror",
    "rate_limit",
    "response_headers",
}
"""Where a word or a list may stand in place of a map, which the engine finds out by trying: it
tells no keys. A strange one is refused all the same, and that it knows ours is seen where it has
the same defaults (`test_agreement`)."""
BESIDE_BACKENDS = {"backends"}
"""Of a cluster, in YAML: they are entities of their own."""


def maps_of(model: type[Model], path: Path = ()) -> Iterator[tuple[Path, type[Model], bool]]:
    """Every map of keys in a kind, where it stands, and whether it works already."""
    yield path, model, True
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        if inner is None:
            continue
        steps = (name, *(["entry"] if get_origin(field.annotation) is dict else []))
        for below, each, works in maps_of(inner, (*path, *steps)):
            yield below, each, works and later_of(field) is None


def is_later(field: FieldInfo) -> bool:
    """Whether nothing of a key works yet, so that the engine need not know it."""
    mark: Later | None = later_of(field)
    return mark is not None and mark.has is None


MAPS = [(kind, *found) for kind, model in MODELS.items() for found in maps_of(model)]
IDS = [".".join((kind, *path)) for kind, path, _, _ in MAPS]


def at(schema: dict[str, Any], node: dict[str, Any], path: Path) -> dict[str, Any]:
    """The schema of the map at a path, through references, forms and entries by name."""
    found = forms(schema, node)
    for step in path:
        below = []
        for form in found:
            within = form.get("properties", {}).get(step)
            if step == "entry":
                within = form.get("additionalProperties") or next(
                    iter(form.get("patternProperties", {}).values()), None
                )
            below += forms(schema, within) if isinstance(within, dict) else []
        found = below
    # Beside the map there may be conditions on some of its keys.
    return max(found, key=lambda form: len(form.get("properties", ())))


def forms(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be: a map, or something else in its place."""
    if "$ref" in node:
        return forms(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    found = [node]
    for key in ("anyOf", "oneOf", "allOf"):
        for each in node.get(key, ()):
            found += forms(schema, each)
    if "items" in node:
        found += [each for each in forms(schema, node["items"]) if "properties" not in each]
    return found


@pytest.mark.parametrize(("kind", "path", "model", "works"), MAPS, ids=IDS)
def test_the_schema_has_the_keys_of_the_model(
    kind: str, path: Path, model: type[Model], works: bool
) -> None:
    schema = json_schema(kind)
    found = set(at(schema, schema, path)["properties"])
    more = BESIDE_BACKENDS if (kind, path) == ("cluster", ()) else set()
    assert found == {*model.model_fields, *more}


def test_the_reference_has_the_keys_of_the_models_and_no_other() -> None:
    text = reference_markdown()
    for kind in MODELS:
        # That of each begins with its title, and the last one with another.
        heading = rf"^## {section_of(kind).title()}\n(.*?)(?=^## |\Z)"
        if kind == "backend":
            heading = r"^## Backends\n(.*?)(?=^## |\Z)"
        section = re.search(heading, text, re.MULTILINE | re.DOTALL)
        assert section is not None, kind
        rows = re.findall(r"^\| `([\w.]+)` \|", section[1], re.MULTILINE)
        expected = [
            ".".join((*named(path), name))
            for path, model, _ in maps_of(MODELS[kind])
            for name in model.model_fields
        ]
        assert len(rows) == len(set(rows))
        assert set(rows) == set(expected), kind


def named(path: Path) -> Iterator[str]:
    """A path as the reference has it: an entry by what it is called there."""
    for before, step in zip(("", *path), path, strict=False):
        yield _ENTRY[before] if step == "entry" else step


@pytest.mark.parametrize(("kind", "path", "model", "works"), MAPS, ids=IDS)
def test_the_engine_has_the_keys_of_the_model(
    engine: EngineApi, kind: str, path: Path, model: type[Model], works: bool
) -> None:
    value: Json = {STRANGE: 1}
    for number, step in reversed(list(enumerate(path))):
        before = path[number - 1]
        value = {ENTRIES.get(before, "x") if step == "entry" else step: value}
    assert isinstance(value, dict)
    key = EntityKey(kind, {"settings": "settings", "backend": "c/x"}.get(kind, "x"))
    [chunk] = chunks([Entity(key, value, NOWHERE)])
    with pytest.raises(PrepareRefusedError) as refused:
        engine.stage(1, 0, chunk.ops, {})
    engine.abort(1)
    untagged = re.search(r"any variant of untagged enum (\w+)", str(refused.value))
    if untagged:
        assert path[0] in UNTOLD, refused.value
        return
    told = re.search(r"unknown (?:field|variant) `(\w+)`, expected (.*)", str(refused.value))
    assert told is not None and told[1] in (*path, STRANGE), refused.value
    if not works:
        return
    assert told[1] == STRANGE, refused.value
    later = {name for name, field in model.model_fields.items() if is_later(field)}
    field = field_at(kind, tuple(step for step in path if step != "entry"))
    words = {word for part in parts(field) for word in get_args(part)} if field else set()
    assert set(re.findall(r"`(\w+)`", told[2])) - words == {*model.model_fields} - later
