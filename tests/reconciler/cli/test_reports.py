"""The schemas of what commands print: one for each that has `--json`, and true of a report."""

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.main import COMMANDS, load
from reconciler.cli.parameters import parameters
from reconciler.cli.reports import REPORTS, SUBJECTS, report_schema
from tests.reconciler.cli.program import kakehi

TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}


def violations(schema: dict[str, Any], value: Any, path: str = "$") -> list[str]:
    """Check a value against the part of JSON Schema that reports use."""
    if "anyOf" in schema:
        attempts = [violations(each, value, path) for each in schema["anyOf"]]
        return [] if [] in attempts else attempts[0]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: {value!r}"]
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return [f"{path}: {value!r} is no {schema['type']}"]
    found = [f"{path}: {key} is missing" for key in schema.get("required", ()) if key not in value]
    for key, each in schema.get("properties", {}).items():
        if key in value:
            found += violations(each, value[key], f"{path}.{key}")
    if isinstance(schema.get("additionalProperties"), dict):
        for key, each in value.items():
            found += violations(schema["additionalProperties"], each, f"{path}.{key}")
    for number, each in enumerate(value if "items" in schema else ()):
        found += violations(schema["items"], each, f"{path}[{number}]")
    return found


def test_every_command_that_prints_json_has_a_schema() -> None:
    printing = {
        name
        for name in COMMANDS
        if any(parameter.name == "as_json" for parameter in parameters(load(name)))
    }
    assert printing == REPORTS.keys()


@pytest.mark.parametrize("command", SUBJECTS)
def test_the_schema_is_printed(command: str) -> None:
    printed = json.loads(kakehi("schema", command).stdout)
    assert printed == report_schema(command)
    assert printed["required"]
    assert printed["description"]


def test_a_report_of_validate_is_what_its_schema_says(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("clusters: {x: {y: 1}}")
    report = json.loads(kakehi("validate", str(tmp_path), "--json").stdout)
    assert violations(report_schema("validate"), report) == []
    assert violations(report_schema("validate"), {**report, "valid": "no"}) != []
