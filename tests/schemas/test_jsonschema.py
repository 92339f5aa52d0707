import json
from pathlib import Path

import pytest

from schemas import jsonschema
from schemas.kinds import MODELS, SECTIONS

DEFINITIONS: dict[str, set[str]] = {
    "backend": set(),
    "certificate": {"Acme"},
    "cluster": {"Backend", "ClusterLimits", "ClusterTimeouts", "ClusterTls"},
    "frontend": {"HeaderMatch", "Hsts", "PathMatch", "QueryMatch"},
    "listener": {"ErrorPage", "ListenerLimits", "ListenerTimeouts", "ListenerTls"},
    "settings": {"ErrorPage"},
}
ROOT = Path(__file__).parent.parent.parent


def test_the_stored_schema_is_current() -> None:
    stored = (ROOT / "schemas" / "kakehi.schema.json").read_text(encoding="utf-8")
    assert stored == jsonschema.schema_text(), "run python -m schemas.jsonschema --write"


def test_the_stored_reference_is_current() -> None:
    stored = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert stored == jsonschema.reference_markdown(), "run python -m schemas.jsonschema --write"


def test_a_file_has_the_sections_and_nothing_else() -> None:
    schema = jsonschema.json_schema()
    assert set(schema["properties"]) == set(SECTIONS)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_kind_alone_is_complete(kind: str) -> None:
    schema = jsonschema.json_schema(kind)
    fields = set(MODELS[kind].model_fields)
    assert set(schema["properties"]) == fields | ({"backends"} if kind == "cluster" else set())
    assert set(schema["$defs"]) == DEFINITIONS[kind]


def test_every_key_is_described_and_no_map_is_open() -> None:
    for name, definition in jsonschema.json_schema()["$defs"].items():
        assert definition["additionalProperties"] is False, name
        for key, value in definition["properties"].items():
            assert value["description"].endswith("."), f"{name}.{key}"


def test_defaults_are_written_as_in_yaml() -> None:
    definitions = jsonschema.json_schema()["$defs"]
    assert definitions["ClusterTimeouts"]["properties"]["connect"]["default"] == "3s"
    assert definitions["ListenerLimits"]["properties"]["head_bytes"]["default"] == "32KiB"
    assert definitions["ListenerLimits"]["properties"]["body_bytes"]["default"] is None


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert jsonschema.main([]) == 0
    assert json.loads(capsys.readouterr().out) == jsonschema.json_schema()
