"""JSON Schema out of the models: for editors, for `kakehi schema`, for whoever checks files in CI.

Also by which language a state was written (`language`), for `reconciler.storage.reading.upgrade`.

`python -m schemas.describing.jsonschema --write` renews the two generated files, this schema and
the reference of the language; a test proves that both are current.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from schemas.base import Later, Model, OneOf, later_of, usual_of
from schemas.describing.reference import reference_markdown
from schemas.entities.entity import canonical
from schemas.kinds.registry import MODELS, SECTIONS, defaults_of, inner_model, measure
from schemas.policies.error_page import ErrorPage
from schemas.policies.nulls import adds_up
from schemas.values.names import NAME_PATTERN

__all__ = ["json_schema", "language", "main", "reference_markdown"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"
_WORDS = ("title", "description", "examples")
_NAMES = ("properties", "patternProperties", "$defs")
_BACKENDS = {"description": "The addresses of the cluster, by name."}


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """Return the schema of a configuration file, or of one entity of a kind."""
    definitions = _definitions()
    if kind is not None:
        schema = definitions[MODELS[kind].__name__]
        return {"$schema": DIALECT, **schema, "$defs": _needed(schema, definitions)}
    sections: dict[str, Any] = {}
    for section, section_kind in SECTIONS.items():
        reference = {"$ref": f"#/$defs/{MODELS[section_kind].__name__}"}
        if section_kind == "settings":
            sections[section] = reference
        else:
            sections[section] = {"description": f"Every {section_kind}, by name."}
            # Nothing under the key, because all entries are commented out, is an empty map.
            sections[section] |= _by_name(reference) | {"type": ["object", "null"]}
    return {
        "$schema": DIALECT,
        "title": "Kakehi configuration",
        "description": "One file of a configuration. Any file may hold any of these maps.",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
        "$defs": definitions,
    }


def language(models: Mapping[str, type[Model]] = MODELS) -> str:
    """Name the language: another one has other keys, types or defaults, at whatever depth.

    What keys are called in words may change and is no other language. `wire.LANGUAGE` has it.
    """
    _, generated = models_json_schema([(model, "validation") for model in models.values()])
    meaning = {
        "schema": _without_words(generated["$defs"], names=True),
        "defaults": {kind: defaults_of(model) for kind, model in models.items()},
        # What works from now on is something that no worker of before does.
        "later": {
            kind: [".".join(path) for path in later_paths(model)] for kind, model in models.items()
        },
    }
    return hashlib.sha256(canonical(meaning)).hexdigest()[:16]


def later_paths(model: type[Model]) -> list[tuple[str, ...]]:
    """Return the paths of what does not work yet, and where it is values, which do."""
    found: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        mark, inner = later_of(field), inner_model(field)
        if mark is not None:
            found.append((name, *([] if mark.narrows is None else [json.dumps(mark.narrows)])))
        elif inner is not None:
            found += [(name, *path) for path in later_paths(inner)]
    return found


def main(arguments: list[str]) -> int:
    """Print the schema, or write the generated files with `--write`."""
    if arguments == ["--write"]:
        root = Path(__file__).parent.parent.parent
        (root / "schemas" / "kakehi.schema.json").write_text(schema_text(), encoding="utf-8")
        (root / "docs").mkdir(exist_ok=True)
        (root / "docs" / "reference.md").write_text(reference_markdown(), encoding="utf-8")
        return 0
    sys.stdout.write(schema_text())
    return 0


def schema_text() -> str:
    """Return the schema of a configuration file as it is stored."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _definitions() -> dict[str, Any]:
    _, generated = models_json_schema(
        [(model, "validation") for model in MODELS.values()], ref_template=_DEFINITIONS + "{model}"
    )
    definitions: dict[str, Any] = generated["$defs"]
    for model in _all_models():
        _as_written(model, definitions[model.__name__])
    cluster = definitions["Cluster"]["properties"]
    backends = _by_name({"$ref": "#/$defs/Backend"}) | {"type": ["object", "null"]}
    cluster["backends"] = _BACKENDS | backends
    definitions["Cluster"]["properties"] = dict(sorted(cluster.items()))
    # A plain text in the place of a match means exact; the models say so by a validator.
    for field in ("cookies", "headers", "query"):
        entries = definitions["Frontend"]["properties"][field]
        entries["additionalProperties"] = {
            "anyOf": [{"type": "string"}, entries["additionalProperties"]]
        }
    # A file is written as its path: its fields are no part of the language.
    kinds = {model.__name__: definitions[model.__name__] for model in MODELS.values()}
    return dict(sorted({**_needed(kinds, definitions), **kinds}.items()))


def _without_words(node: Any, *, names: bool = False) -> Any:
    """Return a schema without its prose. With `names`, its keys are names of ours."""
    if isinstance(node, list):
        return [_without_words(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_words(value, names=not names and key in _NAMES)
        for key, value in node.items()
        if names or key not in _WORDS
    }


def _needed(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the definitions that a schema refers to, directly or not."""
    needed: set[str] = set()
    waiting = _references(schema)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting |= _references(definitions[name]) - needed
    return {name: definition for name, definition in definitions.items() if name in needed}


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_references, node))
    if not isinstance(node, dict):
        return set()
    direct = {node["$ref"].removeprefix(_DEFINITIONS)} if "$ref" in node else set()
    return direct.union(*map(_references, node.values()))


def _all_models() -> set[type[Model]]:
    found: set[type[Model]] = {ErrorPage}
    waiting: list[type[Model]] = list(MODELS.values())
    while waiting:
        model = waiting.pop()
        found.add(model)
        inner = (inner_model(field) for field in model.model_fields.values())
        waiting += [one for one in inner if one is not None and one not in found]
    return found


def _as_written(model: type[Model], schema: dict[str, Any]) -> None:
    """Turn a model's schema into that of its YAML: defaults with units, no generated titles."""
    schema.pop("title", None)
    for name, field in model.model_fields.items():
        shown = schema["properties"][name]
        shown.pop("title", None)
        mark = later_of(field)
        if mark is not None:
            _refused(shown, mark, field)
        if "patternProperties" in shown:
            shown["additionalProperties"] = False
        if (issubclass(model, OneOf) and name not in model.BESIDE) or adds_up(field):
            _without_null(shown)
        elif not field.is_required():
            default = usual_of(field)
            measured = measure(field)
            if isinstance(default, Model):
                shown.pop("default", None)
            elif measured is not None and isinstance(default, int):
                shown["default"] = measured.format(default)
            else:
                shown["default"] = default


def _refused(shown: dict[str, Any], mark: Later, field: FieldInfo) -> None:
    """Say in the schema of a field what does not work yet, so that an editor says it too."""
    narrows = {"const": usual_of(field)} if mark.narrows is None else dict(mark.narrows)
    alone = "" if mark.narrows is None else " in part"
    described = f"Not there yet{alone}, and refused: {mark.meanwhile}. {shown['description']}"
    written = {key: value for key, value in shown.items() if key not in _WORDS}
    shown.clear()
    shown |= {"description": described, "allOf": [written, narrows]}


def _without_null(shown: dict[str, Any]) -> None:
    shown.pop("default", None)
    for alternative in shown.pop("anyOf", []):
        if alternative != {"type": "null"}:
            shown.update(alternative)


def _by_name(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
        "additionalProperties": schema,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
